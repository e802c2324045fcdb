// A classifier that steers beside a mix, whatever its way.

import { el, icon } from "./dom.js";
import { knob } from "./knob.js";

export class Steer {
  // `styles` are those that the model's classifier tells apart; without any there is nothing to steer by.
  constructor(styles, most, onChange) {
    this.known = styles;
    this.strength = 0;
    this.words = el("span");
    this.way = el("button.way", { type: "button", title: "Classifier guidance", onclick: () => this.#set(this.strength ? 0 : 1, onChange) },
      icon("steer"), el("strong", {}, "Steer"), this.words);
    [this.slider, this.number] = knob({ max: most, value: 0, label: "How hard to steer", onInput: (strength) => {
      this.strength = strength;
      onChange();
    } });
    this.row = el("div.beside-row", { hidden: true }, el("i"), this.slider, this.number);
    this.root = el("div.beside", { role: "group", "aria-label": "Steering", hidden: styles.length === 0 }, this.way, this.row);
  }

  get told() {
    return this.strength;
  }

  load(strength) {
    this.#set(this.known.length ? strength : 0);
  }

  // Says what it would steer towards.
  show(styles) {
    const felt = styles.map(({ name }) => name).filter((name) => this.known.includes(name));
    this.words.textContent = felt.length
      ? `A judge of styles looks at every step and pushes the picture towards ${felt.join(", ")}.`
      : "A judge of styles pushes the picture at every step; it knows none of these.";
  }

  #set(strength, onChange = () => {}) {
    this.strength = strength;
    this.slider.value = String(strength);
    this.slider.dispatchEvent(new Event("set"));
    this.row.hidden = strength === 0;
    this.way.setAttribute("aria-pressed", String(strength > 0));
    onChange();
  }
}
