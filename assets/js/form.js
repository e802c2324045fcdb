// The form's side of the page: filling it from a picture or an example, and saying what is wrong beside its field.

import { el, isTyping } from "./dom.js";
import { hear, tell } from "./desk.js";
import { cards } from "./examples.js";
import { asSketched } from "./sketching.js";
import { weighWords } from "./weighing.js";
import { signed } from "./welcome.js";

const REMEMBERED = "atelier.form";
// The order in which studio/tabs/prompt_to_image.py hands the fields over.
export const FIELDS = [
  "prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "sampler", "seed", "pictures",
];
// What is one thing comes back together or not at all.
const TOGETHER = [["prompt"], ["negative_prompt"], ["width", "height"], ["num_inference_steps", "guidance_scale", "sampler"], ["seed"], ["pictures"]];
// Read before anything that she writes now is remembered in its place.
let kept = JSON.parse(localStorage.getItem(REMEMBERED) ?? "null");
let offered = {};

export function mount({ element, props, trigger, watch }) {
  const fill = (values) => {
    offered = { ...offered, ...values };
    trigger("fill");
  };
  if (kept) fill({});
  hear("settings", fill);
  hear("seed", (seed) => fill({ seed }));
  watch("value", () => complain(element, props.value));
  weighWords();
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

// Called by Gradio with what the fields begin with and what they hold; answers with the values that were offered, and
// leaves the others alone.
export function taken(fresh, ...current) {
  const values = { ...comingBack(fresh, current), ...offered };
  if (kept) rememberForm(FIELDS.map((name, index) => values[name] ?? current[index]));
  kept = null;
  offered = {};
  return FIELDS.map((name) => values[name]);
}

// What she left, except for what she has done to the form since the page opened.
function comingBack(fresh, current) {
  if (!kept) return {};
  const isFresh = (name) => String(current[FIELDS.indexOf(name)] ?? "") === String(fresh[FIELDS.indexOf(name)] ?? "");
  const names = TOGETHER.filter((group) => group.every(isFresh)).flat();
  return Object.fromEntries(names.map((name) => [name, kept[name]]));
}

// Called by Gradio as the artist paints: the form is as she left it when she comes back.
export async function remember(...values) {
  rememberForm(values);
  const painted = asSketched(values);
  await signed();
  return painted;
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
