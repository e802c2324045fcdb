// The palette and the mix: which styles, how much of each, and how they are mixed.

import { button, el, icon } from "./dom.js";
import { hear, say, tell } from "./desk.js";
import { Follow, followed } from "./follow.js";
import { INKS } from "./inks.js";
import { Loras } from "./loras.js";
import { Steer } from "./steer.js";

// What each way does, in an artist's words; its name in the literature is the tooltip.
const METHODS = [
  ["conditioning", "Blend the words", "lerp", "The model reads one prompt between the styles. The calmest mix.",
    "Weighted sum of prompt embeddings"],
  ["slerp", "Turn the words", "slerp", "The same, but along an arc: halfway the words are as strong as at the ends.",
    "Spherical interpolation of prompt embeddings"],
  ["prediction", "Blend the strokes", "strokes", "Every style paints at every step. Below zero, a style is kept away.",
    "Composed noise predictions (composable diffusion)"],
];
const EVEN = 50;

export class Mix {
  // `onChange` hears of every change that an artist makes or a preset brings. One that is `alone` is not the mix of
  // the desk: nobody draws when and where its styles paint.
  constructor(told, onChange, { alone = false } = {}) {
    const { palette, most, mostFollowed, mostSteer, steers } = told;
    this.swatches = palette;
    this.most = most;
    this.onChange = onChange;
    this.method = "conditioning";
    this.styles = [];
    this.alone = alone;
    this.follow = new Follow(mostFollowed, () => this.onChange());
    this.steer = new Steer(steers, mostSteer, () => this.onChange());
    this.loras = new Loras(told, () => this.onChange(), { alone });
    this.#build();
    if (!alone) this.#hearOfPanels();
    this.#draw();
  }

  #hearOfPanels() {
    hear("curve", ({ name, curve }) => {
      const style = this.styles.find((one) => one.name === name);
      if (!style) return;
      style.curve = curve;
      this.onChange();
    });
    hear("region", ({ name, region }) => {
      const style = this.styles.find((one) => one.name === name);
      if (!style) return;
      style.region = region;
      this.#draw();
      this.onChange();
    });
  }

  // What a recipe says of the mix.
  get told() {
    return whole(this.method, this.styles, this.follow.told, this.steer.told, this.loras.told);
  }

  get isEmpty() {
    return [this.styles, this.follow.told, this.loras.told].every((parts) => parts.length === 0);
  }

  // Another mix in the same words, so that two can be compared.
  alike(mix) {
    return whole(mix.method, mix.styles, mix.references, mix.steer?.strength, mix.loras);
  }

  load(mix) {
    this.method = mix.method;
    this.styles = [];
    for (const style of mix.styles) this.styles.push({ ...style, colour: this.#freeColour() });
    this.picked = this.styles[0]?.name;
    this.follow.load(mix.references ?? []);
    this.steer.load(mix.steer?.strength ?? mix.steer ?? 0);
    this.loras.load(mix.loras ?? []);
    this.#draw();
    this.onChange();
  }

  toggle(swatch) {
    const { name, prompt, negative_prompt } = swatch;
    if (this.styles.some((style) => style.name === name)) return this.#remove(name);
    if (this.styles.length >= this.most) return say(`A mix has ${this.most} styles at the most.`);
    const weight = this.styles.length ? Math.max(1, Math.round(this.#whole() / this.styles.length)) : EVEN;
    this.styles.push({ name, prompt, negative_prompt, weight, curve: null, colour: this.#freeColour() });
    this.picked = name;
    this.#draw();
    this.onChange();
  }

  pick(name) {
    this.picked = name;
    this.#draw();
  }

  #remove(name) {
    this.styles = this.styles.filter((style) => style.name !== name);
    if (this.picked === name) this.picked = this.styles.at(-1)?.name;
    this.#draw();
    this.onChange();
  }

  #freeColour() {
    return INKS.find((colour) => this.styles.every((style) => style.colour !== colour)) ?? INKS[0];
  }

  #whole() {
    return this.styles.reduce((sum, { weight }) => sum + Math.max(0, weight), 0);
  }

  #build() {
    this.wells = new Map();
    const wells = this.swatches.map((swatch) => {
      const well = el("button.swatch", { type: "button", title: [swatch.period, swatch.description].filter(Boolean).join(". "),
        onclick: () => this.toggle(swatch) },
      el("img", { src: `/atelier/styles/${swatch.thumbnail}`, alt: "", loading: "lazy" }), el("span", {}, swatch.name));
      this.wells.set(swatch.name, well);
      return well;
    });
    this.palette = el("section.mixing-palette", { "aria-label": "Palette" }, el("h3", {}, "Palette"),
      el("div.swatches", {}, ...wells, this.#ownWords()));
    this.bar = el("div.shares", { "aria-hidden": "true" });
    this.rows = el("div.portions");
    this.root = el("section.mixing-mix", { "aria-label": "Mix" }, this.bar, this.rows);
    this.ways = METHODS.map(([method, name, look, words, title]) => el("button.way", {
      type: "button", title, "data-method": method, onclick: () => this.#mixBy(method),
    }, icon(look), el("strong", {}, name), el("span", {}, words)));
    this.methods = el("section.mixing-ways", {},
      el("div.ways", { role: "group", "aria-label": "Way of mixing" }, ...this.ways), this.follow.root, this.steer.root, this.loras.root,
      this.alone ? null : this.follow.none);
  }

  // A style in the artist's own words: a name for the mix, and what is put after the prompt.
  #ownWords() {
    const open = el("button.swatch.own", { type: "button", title: "A style in your own words" }, el("i", {}, "Aa"), el("span", {}, "own words"));
    open.addEventListener("click", () => {
      const words = el("input", { type: "text", maxlength: 400, placeholder: "pencil sketch, monochrome", "aria-label": "Your own words" });
      const add = el("button.quiet", { type: "button" }, "Add");
      const line = el("div.own-words", {}, words, add);
      const done = () => {
        const text = words.value.trim();
        line.remove();
        if (text) this.toggle({ name: text.slice(0, 40).trim(), prompt: text, negative_prompt: "" });
        open.focus();
      };
      add.addEventListener("click", done);
      words.addEventListener("keydown", (event) => {
        if (event.key === "Escape") line.remove();
        if (event.key !== "Enter") return;
        event.preventDefault();
        event.stopPropagation();
        done();
      });
      this.palette.querySelector(".own-words")?.remove();
      this.palette.append(line);
      words.focus();
    });
    return open;
  }

  #mixBy(method) {
    this.method = method;
    // Only composed predictions can push away.
    if (method !== "prediction") for (const style of this.styles) style.weight = Math.max(0, style.weight);
    this.#draw();
    this.onChange();
  }

  #draw() {
    for (const [name, well] of this.wells) {
      const style = this.styles.find((one) => one.name === name);
      well.setAttribute("aria-pressed", String(Boolean(style)));
      well.style.setProperty("--ink", style?.colour ?? "transparent");
    }
    for (const way of this.ways) way.setAttribute("aria-pressed", String(way.dataset.method === this.method));
    this.rows.replaceChildren(...this.styles.map((style) => this.#portion(style)));
    if (this.styles.length === 0) this.rows.append(el("p.portions-none", {}, "Touch a style to put it on the palette."));
    this.steer.show(this.styles);
    this.#shares();
  }

  #portion(style) {
    const { name, colour } = style;
    const weight = el("input.portion-weight", { type: "range", min: this.method === "prediction" ? -100 : 0, max: 100, value: style.weight,
      "aria-label": `Weight of ${name}` });
    weight.addEventListener("input", () => {
      style.weight = weight.valueAsNumber;
      this.#shares();
      this.onChange();
    });
    return el("div.portion", { "data-name": name, style: `--ink: ${colour}`, "data-picked": name === this.picked ? "" : null,
      "data-region": style.region ? "" : null },
      el("button.portion-name", { type: "button", title: this.alone ? null : `Say when and where ${name} paints`, "aria-pressed": String(name === this.picked),
        onclick: () => this.pick(name) }, name),
      weight,
      el("output.portion-share"),
      button(`Take ${name} out`, "close", () => this.#remove(name), { bare: true }));
  }

  // The numbers and the bar, without building the rows again under the artist's hand.
  #shares() {
    const whole = this.#whole();
    const share = ({ weight }) => (whole ? weight / whole : 0);
    for (const row of this.rows.children) {
      const style = this.styles.find((one) => one.name === row.dataset.name);
      if (style) row.querySelector("output").textContent = `${Math.round(100 * share(style))} %`;
    }
    this.bar.replaceChildren(...this.styles.filter(({ weight }) => weight > 0)
      .map((style) => el("span", { style: `flex-grow: ${share(style)}; background: ${style.colour}` })));
    if (!this.alone) tell("mixed", { styles: this.styles, picked: this.picked });
  }
}

function whole(method, styles, references, steer, loras) {
  const mix = { method, styles: styles.map(told) };
  if (references?.length) mix.references = references.map(followed);
  if (steer) mix.steer = steer;
  if (loras?.length) mix.loras = loras.map(({ name, sha256, weight }) => ({ name, sha256, weight }));
  return mix;
}

// In one order and without what says nothing, as a recipe tells it.
function told({ name, prompt, negative_prompt, weight, curve, region }) {
  const style = { name, prompt, weight: Number(weight) };
  if (negative_prompt) style.negative_prompt = negative_prompt;
  if (curve) style.curve = curve;
  if (region) style.region = region;
  return style;
}
