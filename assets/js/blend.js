// The mixing desk: prompt, palette, the mix itself and how it is seen. What is painted shows on the stage beside it.

import { el, icon, isTyping } from "./dom.js";
import { hear, tell } from "./desk.js";
import { Axes } from "./axes.js";
import { Mix } from "./mix.js";
import { Presets } from "./presets.js";
import { Restyle } from "./restyle.js";
import { signed } from "./welcome.js";

const REMEMBERED = "atelier.mixing";
const VIEWS = [
  ["one", "One picture", "square"],
  ["strip", "Strip", "strip", "Seven stops from one style to the other"],
  ["triangle", "Triangle", "triangle", "Fifteen mixes of three styles"],
  ["grid", "Grid", "grid", "Two things varied at once"],
];

export function mount({ element, props, server }) {
  new Desk(element.querySelector(".mixing"), props.told, server);
}

class Desk {
  constructor(root, told, server) {
    this.root = root;
    this.told = told;
    this.server = server;
    this.view = "one";
    this.complaint = el("p.complaint", { role: "alert" });
    this.mix = new Mix(told, () => this.#changed());
    this.axes = new Axes(told, this.mix);
    this.presets = new Presets(server, this.mix, {
      load: (mix) => this.mix.load(mix), picture: () => this.#picture(), complain: (answer) => this.#complain(answer),
    });
    this.restyle = new Restyle({
      onChange: () => this.#remember(), shape: (width, height) => this.#fit(width, height),
      steps: () => Number(this.fields.num_inference_steps.value) || 1,
    });
    this.#build();
    this.#recall();
    this.#listen();
    this.#changed();
    this.presets.refresh();
  }

  #build() {
    const { samplers, formats } = this.told;
    this.fields = {
      prompt: el("textarea", { id: "mix-prompt", rows: 3, placeholder: "What would you like to see?" }),
      negative_prompt: el("textarea", { id: "mix-negative_prompt", rows: 1, placeholder: "What to keep away from" }),
      width: el("input", { id: "mix-width", type: "number", step: 8 }),
      height: el("input", { id: "mix-height", type: "number", step: 8 }),
      pictures: el("input", { id: "mix-pictures", type: "number", min: 1 }),
      num_inference_steps: el("input", { id: "mix-num_inference_steps", type: "number" }),
      guidance_scale: el("input", { id: "mix-guidance_scale", type: "number", step: 0.5 }),
      seed: el("input", { id: "mix-seed", inputmode: "numeric" }),
      sampler: el("select", { id: "mix-sampler" }, ...samplers.map((name) => el("option", { value: name }, name))),
    };
    this.formats = formats.map((format) => el("button.mixing-format", {
      type: "button", "data-format": format.name, onclick: () => this.#shape(format.width, format.height),
    }, format.name));
    const field = (name, label) => el("div.mixing-field", { id: `mix-field-${name}` }, el("label", { for: `mix-${name}` }, label), this.fields[name]);
    const draw = el("button.mixing-draw", { type: "button", onclick: () => { this.fields.seed.value = "-1"; } }, "Draw a new one");
    const seed = field("seed", "Seed");
    seed.append(draw);
    this.views = VIEWS.map(([view, name, look, words]) => el("button.mixing-view", {
      type: "button", "data-view": view, title: words, onclick: () => this.#see(view),
    }, icon(look), name));
    this.paint = el("button.accent.mixing-paint", { type: "submit" }, "Paint", el("kbd", {}, "Ctrl + Enter"));
    this.root.replaceChildren(
      field("prompt", "Prompt"),
      this.restyle.root,
      this.mix.palette,
      this.presets.root,
      this.mix.root,
      this.mix.methods,
      this.presets.keep,
      el("details.mixing-settings", {}, el("summary", {}, "Size, seed and sampler"),
        el("div.mixing-formats", { role: "group", "aria-label": "Format" }, ...this.formats),
        el("div.mixing-row", {}, field("width", "Width"), field("height", "Height"), field("pictures", "Pictures")),
        el("div.mixing-row.wide-first", {}, field("sampler", "Sampler"), field("num_inference_steps", "Steps")),
        el("div.mixing-row.wide-first", {}, seed, field("guidance_scale", "Guidance")),
        field("negative_prompt", "Negative prompt")),
      el("div.mixing-foot", {},
        el("div.mixing-views", { role: "group", "aria-label": "What to paint" }, ...this.views),
        this.axes.root, this.paint),
    );
  }

  #recall() {
    const { defaults, formats, palette } = this.told;
    const kept = JSON.parse(localStorage.getItem(REMEMBERED) ?? "{}");
    this.#fill({ ...defaults, width: formats[0].width, height: formats[0].height, seed: "-1", pictures: 1, ...kept });
    if (kept.mix) return;
    this.mix.toggle(palette[0]);
    this.mix.toggle(palette[6]);
  }

  #fill(values) {
    for (const [name, field] of Object.entries(this.fields)) {
      if (values[name] !== undefined && values[name] !== null) field.value = String(values[name]);
    }
    if (values.mix) this.mix.load(values.mix);
    this.restyle.load(values.source ?? null);
    this.#shape(this.fields.width.value, this.fields.height.value);
    this.#see(values.view ?? this.view);
  }

  #values() {
    const values = Object.fromEntries(Object.entries(this.fields).map(([name, field]) => [name, field.value]));
    return { ...values, pictures: Number(values.pictures), view: this.view, mix: this.mix.told, source: this.restyle.told };
  }

  #shape(width, height) {
    this.fields.width.value = width;
    this.fields.height.value = height;
    const known = this.told.formats.find((one) => one.width === Number(width) && one.height === Number(height));
    for (const choice of this.formats) choice.setAttribute("aria-pressed", String(choice.dataset.format === known?.name));
    if (width > 0 && height > 0) tell("format:blend-stage", { width, height });
  }

  // The sides of a picture, at the area that the model paints.
  #fit(width, height) {
    const [{ width: wide, height: high }] = this.told.formats;
    const root = Math.sqrt((wide * high) / (width * height));
    this.#shape(...[width, height].map((side) => Math.max(64, Math.round((side * root) / 8) * 8)));
  }

  #see(view) {
    this.view = view;
    this.root.dataset.view = view;
    for (const choice of this.views) choice.setAttribute("aria-pressed", String(choice.dataset.view === view));
  }

  #listen() {
    const { root } = this;
    root.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#begin();
    });
    root.addEventListener("input", () => this.#remember());
    this.fields.num_inference_steps.addEventListener("input", () => this.restyle.tell());
    for (const side of ["width", "height"]) {
      this.fields[side].addEventListener("change", () => this.#shape(this.fields.width.value, this.fields.height.value));
    }
    hear("mix", (recipe) => this.#fill({ ...recipe, view: "one" }));
    hear("seed", (seed) => { this.fields.seed.value = seed; });
    hear("painted", (job) => { if (job.recipe.mix) this.newest = { mix: job.recipe.mix, artwork: job.artwork }; });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || document.querySelector("dialog[open]")) return;
      if (!root.offsetParent) return;
      event.preventDefault();
      root.requestSubmit();
    });
  }

  #changed() {
    this.axes.offer();
    this.#remember();
  }

  #remember() {
    localStorage.setItem(REMEMBERED, JSON.stringify(this.#values()));
  }

  // The last picture of this very mix, to be its likeness among the presets.
  #picture() {
    const same = this.newest && JSON.stringify(this.mix.alike(this.newest.mix)) === JSON.stringify(this.mix.told);
    return same ? this.newest.artwork : null;
  }

  async #begin() {
    if (this.asking) return;
    this.asking = true;
    try {
      await signed();
      const answer = await this.server.paint({ ...this.#values(), ...this.axes.told });
      this.#complain(answer);
      if (answer.group) tell("follow:blend-stage", answer);
    } finally {
      this.asking = false;
    }
  }

  #complain({ sentence = "", field = "" }) {
    const { complaint, root } = this;
    root.querySelectorAll("[aria-invalid]").forEach((wrong) => wrong.removeAttribute("aria-invalid"));
    complaint.textContent = sentence;
    if (!sentence) {
      complaint.remove();
      return;
    }
    if (field === "artist") tell("who", null);
    const places = { source: this.restyle.root, strength: this.restyle.root, mix: this.mix.root, preset: this.presets.keep, grid: this.axes.root };
    const place = places[field] ?? root.querySelector(`#mix-field-${field}`);
    const input = this.fields[field] ?? place?.querySelector("input");
    input?.setAttribute("aria-invalid", "true");
    const details = place?.closest("details");
    if (details) details.open = true;
    const row = place?.closest(".mixing-row") ?? place;
    if (row) row.after(complaint);
    else this.paint.before(complaint);
    complaint.scrollIntoView({ block: "nearest" });
    if (input && !isTyping(document.activeElement)) input.focus({ preventScroll: true });
  }
}
