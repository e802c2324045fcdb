// The form of the inpainting tab: what should be in the hole, and how it is painted.

import { el, onShown } from "./dom.js";
import { tell } from "./desk.js";

const SIDES = ["left", "top", "right", "bottom"];
const ARROWS = "←↑→↓";
const HOLES = [
  ["original", "Picture", "What is there now shines through at low strength"],
  ["blur", "Blur", "The surroundings run into the hole"],
  ["colour", "Colour", "The mean colour of the surroundings"],
  ["noise", "Noise", "Nothing at all"],
];

export class FillForm {
  // `mixes()` tells the mixes that the artist has kept.
  constructor(form, told, mixes) {
    this.form = form;
    this.mixes = mixes;
    this.kept = [];
    const { defaults, samplers, feather_px: feather } = told;
    this.fields = {
      prompt: el("textarea", { id: "fill-prompt", rows: 3, placeholder: "What should be there?" }),
      negative_prompt: el("textarea", { id: "fill-negative_prompt", rows: 1, placeholder: "What to keep away from" }),
      strength: el("input", { id: "fill-strength", type: "range", min: 0.05, max: 1, step: 0.05, value: 1 }),
      feather_px: el("input", { id: "fill-feather_px", type: "number", min: 0, value: feather }),
      pictures: el("input", { id: "fill-pictures", type: "number", min: 1, value: 1 }),
      num_inference_steps: el("input", { id: "fill-num_inference_steps", type: "number", value: defaults.num_inference_steps }),
      guidance_scale: el("input", { id: "fill-guidance_scale", type: "number", step: 0.5, value: defaults.guidance_scale }),
      seed: el("input", { id: "fill-seed", inputmode: "numeric", value: "-1" }),
      sampler: el("select", { id: "fill-sampler" }, ...samplers.map((name) => el("option", { value: name }, name))),
      hole: el("select", { id: "fill-hole" }, ...HOLES.map(([value, name, title]) => el("option", { value, title }, name))),
      style: el("select", { id: "fill-style" }, el("option", { value: "" }, "As in words"),
        el("optgroup", { label: "Palette" }, ...told.styles.map((name) => el("option", { value: `palette ${name}` }, name)))),
      ...Object.fromEntries(SIDES.map((side) => [side, el("input", {
        id: `fill-${side}`, type: "number", min: 0, max: told.most_px, step: 8, value: 0, "aria-label": `Grow to the ${side}, pixels`, "data-side": side,
      })])),
      paste_back: el("input", { id: "fill-paste_back", type: "checkbox", checked: true }),
    };
    this.fields.sampler.value = defaults.sampler;
    const field = (name, label) => el("div.mixing-field", { id: `fill-field-${name}` }, el("label", { for: `fill-${name}` }, label), this.fields[name]);
    const pair = (...fields) => el("div.inpaint-pair", {}, ...fields);
    this.strengthWords = el("p.inpaint-words");
    this.complaint = el("p.complaint", { role: "alert", id: "fill-complaint" });
    this.fill = el("button.accent.inpaint-fill", { type: "submit" }, "Fill");
    const strength = field("strength", "Strength");
    strength.append(this.strengthWords);
    const growing = el("fieldset.inpaint-growing", { id: "fill-field-extend" },
      el("legend", {}, "Let the picture grow, pixels"),
      ...SIDES.map((side, index) => el("label", {}, el("span", { "aria-hidden": "true" }, ARROWS[index]), this.fields[side])));
    this.yours = el("optgroup", { label: "Your mixes" });
    onShown(this.fields.style, () => this.#recallMixes());
    this.fields.style.addEventListener("input", () => (this.wanted = null));
    const exact = el("label.inpaint-exact", { for: "fill-paste_back" }, this.fields.paste_back, "Leave everything else untouched");
    this.form.replaceChildren(
      field("prompt", "What should be there"),
      this.complaint,
      pair(field("style", "Style"), field("hole", "The hole begins from")),
      field("negative_prompt", "Negative prompt"),
      strength,
      growing,
      pair(field("feather_px", "Feather, pixels"), field("pictures", "Fills")),
      pair(field("num_inference_steps", "Steps"), field("guidance_scale", "Guidance")),
      pair(field("sampler", "Sampler"), field("seed", "Seed")),
      exact,
      el("div.inpaint-foot", {}, this.fill),
    );
    form.addEventListener("input", () => this.#strength());
    this.#strength();
  }

  // By how many pixels the picture is to grow to the left, top, right and bottom: as typed, and as numbers.
  get extend() {
    return SIDES.map((side) => this.fields[side].value);
  }

  get margins() {
    return this.extend.map((typed) => Math.min(Math.max(Math.round(Number(typed)) || 0, 0), Number(this.fields.left.max)));
  }

  set extend(pixels) {
    SIDES.forEach((side, index) => (this.fields[side].value = String(pixels[index])));
  }

  // The mix that the fill is painted in, as a recipe tells it; none where the words alone say.
  get mix() {
    const [kind, ...rest] = this.fields.style.value.split(" ");
    if (kind === "palette") return { method: "conditioning", styles: [{ name: rest.join(" "), weight: 1 }] };
    return this.kept.find((preset) => preset.id === rest[0])?.mix ?? null;
  }

  async #recallMixes() {
    const { style } = this.fields;
    this.kept = (await this.mixes()).presets;
    const chosen = this.wanted ?? style.value; // only now: she may have chosen meanwhile
    this.yours.replaceChildren(...this.kept.map(({ id, name }) => el("option", { value: `mix ${id}` }, name)));
    if (this.kept.length) style.append(this.yours);
    else this.yours.remove();
    style.value = chosen;
    if (style.selectedIndex < 0) style.value = "";
    this.wanted = null;
  }

  get values() {
    const values = Object.fromEntries(Object.entries(this.fields).map(([name, field]) => [name, field.type === "checkbox" ? field.checked : field.value]));
    return { ...values, style: this.wanted ?? values.style };
  }

  set values(values) {
    for (const [name, value] of Object.entries(values)) {
      const field = this.fields[name];
      if (field?.type === "checkbox") field.checked = value;
      else if (field) field.value = value;
    }
    if (values.style && this.fields.style.selectedIndex < 0) {
      this.wanted = values.style; // one of her mixes, of which the page does not know yet
      this.fields.style.value = "";
    }
    this.#strength();
  }

  // The sentence stands where she is looking: under its field, or under the picture it is about.
  complain({ sentence = "", field = "" }) {
    document.querySelectorAll(".inpaint .field-wrong").forEach((one) => one.classList.remove("field-wrong"));
    this.complaint.textContent = sentence;
    if (field === "artist") tell("who", null);
    const wrong = sentence && document.getElementById(`fill-field-${field}`);
    if (wrong) {
      wrong.classList.add("field-wrong");
      wrong.after(this.complaint);
    } else if (field === "image" || field === "mask") document.querySelector(".inpaint-bar").before(this.complaint);
    else this.form.querySelector(".inpaint-foot").before(this.complaint);
  }

  // Strength is a step of the schedule, and says so.
  #strength() {
    const steps = Number(this.fields.num_inference_steps.value) || 1;
    const strength = Number(this.fields.strength.value);
    const painted = Math.max(1, Math.min(steps, Math.floor(steps * strength + 1e-9)));
    this.strengthWords.textContent =
      painted === steps ? `${strength.toFixed(2)}: all ${steps} steps, something new` : `${strength.toFixed(2)}: begins at step ${steps - painted + 1} of ${steps}, keeping what shines through`;
  }
}
