// The form's side of the page: filling it from a picture or an example, and saying what is wrong beside its field.

import { el, isTyping } from "./dom.js";
import { hear, tell } from "./desk.js";
import { cards } from "./examples.js";
import { asSketched } from "./sketching.js";

const REMEMBERED = "atelier.form";
// The order in which studio/tabs/prompt_to_image.py hands the fields over.
export const FIELDS = [
  "prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "sampler", "seed", "pictures",
];
let offered = {};

export function mount({ element, props, trigger, watch }) {
  const fill = (values) => {
    offered = values;
    trigger("fill");
  };
  hear("settings", fill);
  hear("seed", (seed) => fill({ seed }));
  const kept = localStorage.getItem(REMEMBERED);
  if (kept) fill(JSON.parse(kept));
  watch("value", () => complain(element, props.value));
  element.querySelector(".examples-open").addEventListener("click", () => openExamples(props.told.examples));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    const paint = document.getElementById("paint");
    if (paint?.offsetParent && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      paint.click();
    }
  });
}

// Called by Gradio with the form's values; answers with those that were offered in their place.
export function taken(...current) {
  const values = FIELDS.map((name, index) => (name in offered ? offered[name] : current[index]));
  offered = {};
  return values;
}

// Called by Gradio as the artist paints: the form is as she left it when she comes back.
export function remember(...values) {
  rememberForm(values);
  return asSketched(values);
}

export function rememberForm(values) {
  localStorage.setItem(REMEMBERED, JSON.stringify(Object.fromEntries(FIELDS.map((name, i) => [name, values[i]]))));
}

export function sizeOf(formats, name, width, height) {
  const format = formats.find((one) => one.name === name);
  return format ? [format.width, format.height] : [width, height];
}

export function formatOf(formats, width, height) {
  if (width > 0 && height > 0) tell("format", { width, height });
  return formats.find((one) => one.width === width && one.height === height)?.name ?? null;
}

function complain(element, value) {
  const line = document.getElementById("complaint") ?? element.querySelector(".complaint");
  document.querySelectorAll(".field-wrong").forEach((field) => {
    field.classList.remove("field-wrong");
    field.querySelectorAll("[aria-invalid]").forEach((input) => {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
    });
  });
  line.textContent = value?.sentence ?? "";
  if (value?.field === "artist") tell("who", null);
  document.getElementById("paint").before(line);
  const field = value?.sentence && document.getElementById(`field-${value.field}`);
  if (!field) return;
  field.classList.add("field-wrong");
  const input = field.querySelector("input, textarea");
  input?.setAttribute("aria-invalid", "true");
  input?.setAttribute("aria-describedby", line.id);
  // The sentence stands where she is looking: under the field, or under the row the field is in.
  (field.closest(".settings") ?? field).after(line);
  line.scrollIntoView({ block: "nearest" });
  if (!isTyping(document.activeElement)) input?.focus({ preventScroll: true });
}

function openExamples(examples) {
  const dialog = el("dialog.sheet-of-ideas", { autofocus: true, tabindex: "-1", "aria-label": "Examples" }, el("h2", {}, "Begin from one of these"));
  const close = () => dialog.close();
  dialog.append(el("div.ideas", {}, ...cards(examples, close)), el("button.quiet", { type: "button", onclick: close }, "Close"));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  document.body.append(dialog);
  dialog.showModal();
}
