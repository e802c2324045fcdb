// The studio's LoRAs: files that change the model's weights, each as much as its slider says. Where there are none, one
// line says where to put them.

import { button, el, icon, onShown } from "./dom.js";
import { say } from "./desk.js";
import { knob } from "./knob.js";

const WEIGHT = 1; // what it was trained for

export class Loras {
  // At most so many at once, each from minus to plus `mostWeight`; `onChange` hears of every change that an artist
  // makes. Only the desk, which is not `alone`, says where to put files.
  constructor({ mostLoras, mostLora }, onChange, { alone }) {
    Object.assign(this, { most: mostLoras, mostWeight: mostLora, onChange, alone, files: [], added: [] });
    this.way = el("button.way", { type: "button", title: "Low-rank adaptation of the model's weights", "aria-expanded": "false",
      onclick: () => this.#open(this.list.hidden) },
    icon("lora"), el("strong", {}, "Add a LoRA"), el("span", {}, "Trained for a manner, a hand or a subject; below zero, for its opposite."));
    this.rows = el("div.loras-added");
    this.list = el("div.loras-list", { hidden: true });
    this.none = el("p.loras-none", { hidden: true }, "LoRAs are found once their safetensors files lie in the studio’s loras folder.");
    this.root = el("div.beside", { role: "group", "aria-label": "LoRAs" }, this.way, this.rows, this.list, this.none);
    onShown(this.root, () => this.#refresh());
    this.#draw();
  }

  get told() {
    return this.added;
  }

  load(loras) {
    this.added = loras.map(({ name, sha256, weight }) => ({ name, sha256, weight }));
    this.#draw();
  }

  async #refresh() {
    let loras;
    try {
      ({ loras } = await (await fetch("/loras")).json());
    } catch {
      return; // the studio does not answer: what was known stays
    }
    this.files = [...loras.filter(({ refusal }) => !refusal), ...loras.filter(({ refusal }) => refusal)];
    this.#draw();
  }

  #open(open) {
    this.list.hidden = !open;
    this.way.setAttribute("aria-expanded", String(open));
    if (!open) return;
    this.list.scrollIntoView({ block: "nearest" });
    this.#refresh();
  }

  #add({ name, sha256 }) {
    if (this.added.length >= this.most) return say(`${this.most} LoRAs at the most can be added.`);
    this.added.push({ name, sha256, weight: WEIGHT });
    this.#open(false);
    this.#changed();
  }

  #letGo(lora) {
    this.added = this.added.filter((one) => one !== lora);
    this.#changed();
  }

  #changed() {
    this.#draw();
    this.onChange();
  }

  #draw() {
    const some = this.files.length > 0 || this.added.length > 0;
    this.way.hidden = !some;
    this.none.hidden = some || this.alone;
    this.way.setAttribute("aria-pressed", String(this.added.length > 0));
    this.rows.replaceChildren(...this.added.map((lora) => this.#row(lora)));
    const free = this.files.filter(({ sha256 }) => !sha256 || this.added.every((one) => one.sha256 !== sha256));
    this.list.replaceChildren(...free.map((file) => this.#choice(file)));
    if (free.length === 0) this.list.append(el("p.loras-words", {}, "All there are have been added."));
  }

  #choice({ name, sha256, refusal, note }) {
    return el("div.lora-choice", {},
      el("button.lora-name", { type: "button", disabled: Boolean(refusal), onclick: () => this.#add({ name, sha256 }) }, name),
      refusal || note ? el("p.loras-words", {}, refusal || note) : null);
  }

  #row(lora) {
    const { name, sha256 } = lora;
    const isHere = this.files.length === 0 || this.files.some((file) => file.sha256 === sha256);
    const slider = knob({ min: -this.mostWeight, max: this.mostWeight, step: 0.05, value: lora.weight, label: `Weight of the LoRA ${name}`,
      onInput: (weight) => {
        lora.weight = weight;
        this.onChange();
      } });
    return el("div.beside-row.lora-row", { title: isHere ? name : `The file of ${name} is not in the studio’s loras folder any more.`, "data-gone": isHere ? null : "" },
      el("span.lora-name", {}, name), ...slider, button(`Take the LoRA ${name} out`, "close", () => this.#letGo(lora), { bare: true }));
  }
}
