// The two axes of a grid: what is varied across and down, and with which values.

import { el } from "./dom.js";

const BEGIN = [["guidance_scale", "2, 3.5, 5"], ["seed", "1, 2, 3"]];
const HINTS = {
  weight: "0, 50, 100", lora: "-1, 0, 1", guidance_scale: "2, 3.5, 5", seed: "1, 2, 3", num_inference_steps: "8, 16, 32",
  sampler: "Euler, DDIM", prompt: "river, harbour, sea",
};

export class Axes {
  constructor({ axes }, mix) {
    this.kinds = axes;
    this.mix = mix;
    this.sides = [["across", "Across"], ["down", "Down"]].map(([side, name], index) => {
      const kind = el("select", { "aria-label": `${name}: what is varied` });
      const values = el("input", { type: "text", value: BEGIN[index][1], "aria-label": `${name}: values, separated by commas` });
      kind.addEventListener("change", () => { values.value = HINTS[kind.value.split(":")[0]]; });
      return { side, name, kind, values, begin: BEGIN[index][0] };
    });
    this.root = el("div.axes", {}, ...this.sides.map(({ name, kind, values }) => el("div.axis", {}, el("span", {}, name), kind, values)));
  }

  // The weights that can be varied are those of the styles and the LoRAs in the mix.
  offer() {
    for (const one of this.sides) {
      const before = one.kind.value || one.begin;
      const inMix = { weight: this.mix.styles, lora: this.mix.loras.told };
      const options = this.kinds.flatMap(({ kind, name }) => inMix[kind]
        ? inMix[kind].map((one) => [`${kind}:${one.name}`, `Weight of ${one.name}`])
        : [[kind, name]]);
      one.kind.replaceChildren(...options.map(([value, name]) => el("option", { value, selected: value === before }, name)));
    }
  }

  get told() {
    return Object.fromEntries(this.sides.map(({ side, kind, values }) => {
      const [name, ...style] = kind.value.split(":");
      return [side, { kind: name, style: style.join(":"), values: values.value }];
    }));
  }
}
