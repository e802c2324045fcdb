// What may go beside a mix, whatever its way: pictures whose manner is followed, and a classifier that steers.

import { button, el, icon } from "./dom.js";
import { say } from "./desk.js";
import { knob } from "./knob.js";
import { sendPicture } from "./restyle.js";

const STRENGTH = 0.4;

export class Follow {
  // At most so many pictures; `onChange` hears of every change that an artist makes.
  constructor(most, onChange) {
    Object.assign(this, { most, onChange, pictures: [] });
    this.file = el("input", { type: "file", accept: "image/*,.heic,.heif", multiple: true, hidden: true, "aria-label": "A picture to follow" });
    this.bring = el("button.way", { type: "button", title: "Style-aligned shared attention", onclick: () => this.file.click() },
      icon("follow"), el("strong", {}, "Follow a picture"), el("span", {}, "At every step the run looks at it and takes over its colour and manner; far along, its layout too."));
    this.rows = el("div.followed");
    this.root = el("div.beside", { role: "group", "aria-label": "Pictures that are followed" }, this.file, this.bring, this.rows);
    this.file.addEventListener("change", () => {
      this.#take([...this.file.files]);
      this.file.value = "";
    });
    this.root.addEventListener("dragover", (event) => event.preventDefault());
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#take([...event.dataTransfer.files]);
    });
  }

  get told() {
    return this.pictures;
  }

  load(pictures) {
    this.pictures = pictures.map(({ image, strength }) => ({ image, strength }));
    this.#draw();
  }

  async #take(files) {
    for (const file of files) {
      const told = await sendPicture(file);
      if (!told || this.pictures.some(({ image }) => image === told.source)) continue;
      if (this.pictures.length >= this.most) {
        say(`${this.most} pictures at the most can be followed.`);
        break;
      }
      this.pictures.push({ image: told.source, strength: STRENGTH });
    }
    this.#draw();
    this.onChange();
  }

  #letGo(image) {
    this.pictures = this.pictures.filter((one) => one.image !== image);
    this.#draw();
    this.onChange();
  }

  #draw() {
    this.bring.setAttribute("aria-pressed", String(this.pictures.length > 0));
    this.rows.replaceChildren(...this.pictures.map((picture) => this.#row(picture)));
  }

  #row(picture) {
    const image = el("img.followed-image", { src: `/sources/${picture.image}`, alt: "A picture that is followed" });
    image.addEventListener("error", () => {
      this.#letGo(picture.image);
      say("A picture that this mix follows is not yours: bring one of your own.");
    });
    const slider = knob({ max: 1, value: picture.strength, label: "How far the picture is followed", onInput: (strength) => {
      picture.strength = strength;
      this.onChange();
    } });
    return el("div.beside-row", {}, image, ...slider, button("Let the picture go", "close", () => this.#letGo(picture.image), { bare: true }));
  }
}

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
