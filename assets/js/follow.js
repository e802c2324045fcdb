// Pictures that a mix follows, and for each how: by shared attention, or through one of the studio's IP-Adapters.

import { button, el, icon, onShown } from "./dom.js";
import { say } from "./desk.js";
import { knob } from "./knob.js";
import { sendPicture } from "./restyle.js";

const STRENGTH = 0.4;
const SHARED = {
  name: "Shared attention",
  note: "Takes over its colour and manner; far along, its layout too.",
};

export class Follow {
  // At most so many pictures; `onChange` hears of every change that an artist makes.
  constructor(most, onChange) {
    Object.assign(this, { most, onChange, pictures: [], files: [], open: null });
    this.file = el("input", { type: "file", accept: "image/*,.heic,.heif", multiple: true, hidden: true, "aria-label": "A picture to follow" });
    this.bring = el("button.way", { type: "button", title: "Style-aligned shared attention, or an IP-Adapter", onclick: () => this.file.click() },
      icon("follow"), el("strong", {}, "Follow a picture"), el("span", {}, `Up to ${most} pictures that this one is to take after.`));
    this.rows = el("div.followed");
    this.root = el("div.beside", { role: "group", "aria-label": "Pictures that are followed" }, this.file, this.bring, this.rows);
    // For whoever puts files there; what to do with them is said where they are chosen.
    this.none = el("p.loras-none", { hidden: true }, "IP-Adapters, which take over what a picture shows, are found in the studio’s ip_adapters folder.");
    this.file.addEventListener("change", () => {
      this.#take([...this.file.files]);
      this.file.value = "";
    });
    this.root.addEventListener("dragover", (event) => event.preventDefault());
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#take([...event.dataTransfer.files]);
    });
    onShown(this.root, () => this.#refresh());
  }

  get told() {
    return this.pictures;
  }

  load(pictures) {
    this.pictures = pictures.map(followed);
    this.open = null;
    this.#draw();
  }

  async #refresh() {
    let adapters;
    try {
      ({ ip_adapters: adapters } = await (await fetch("/ip_adapters")).json());
    } catch {
      return; // the studio does not answer: what was known stays
    }
    this.files = [...adapters.filter(({ refusal }) => !refusal), ...adapters.filter(({ refusal }) => refusal)];
    this.none.hidden = this.files.length > 0;
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
      // As the one before it: who has chosen a way has chosen it.
      this.pictures.push(followed({ image: told.source, strength: STRENGTH, ip_adapter: this.pictures.at(-1)?.ip_adapter }));
    }
    this.#draw();
    this.onChange();
  }

  #letGo(image) {
    this.pictures = this.pictures.filter((one) => one.image !== image);
    this.#draw();
    this.onChange();
  }

  #choose(picture, adapter) {
    delete picture.ip_adapter;
    if (adapter) picture.ip_adapter = { name: adapter.name, sha256: adapter.sha256 };
    this.open = null;
    this.#draw();
    this.rows.querySelector(`[data-image="${picture.image}"] .followed-how`)?.focus();
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
    return el("div.followed-picture", { "data-image": picture.image }, image,
      el("div.followed-far", {}, ...slider),
      button("Let the picture go", "close", () => this.#letGo(picture.image), { bare: true }),
      ...this.#ways(picture));
  }

  // How it is followed, what that does, and, opened, what else there is.
  #ways(picture) {
    const { ip_adapter: adapter } = picture;
    const file = adapter && this.files.find(({ sha256 }) => sha256 === adapter.sha256);
    const isGone = Boolean(adapter) && this.files.length > 0 && !file;
    const words = isGone ? "Its file is not in the studio’s ip_adapters folder any more." : (adapter ? file?.note : SHARED.note) ?? "";
    if (this.files.length === 0 && !adapter) return [el("p.followed-words", {}, words)];
    const isOpen = this.open === picture.image;
    const how = el("button.followed-how", { type: "button", title: "Follow it in another way", "aria-expanded": String(isOpen), "data-gone": isGone ? "" : null,
      onclick: () => {
        this.open = isOpen ? null : picture.image;
        this.#draw();
        this.rows.querySelector(`[data-image="${picture.image}"] .followed-how`).focus();
        this.rows.querySelector(".followed-choices")?.scrollIntoView({ block: "nearest" });
      } }, el("span", {}, adapter?.name ?? SHARED.name), icon("open"));
    if (!isOpen) return [how, el("p.followed-words", {}, words)];
    const choices = [SHARED, ...this.files].map((one) => el("div.lora-choice", {},
      el("button.lora-name", { type: "button", disabled: Boolean(one.refusal), "aria-pressed": String(one === (adapter ? file : SHARED)),
        onclick: () => this.#choose(picture, one === SHARED ? null : one) }, one.name),
      el("p.loras-words", {}, one.refusal || one.note)));
    return [how, el("div.followed-choices", { role: "group", "aria-label": "How the picture is followed" }, ...choices)];
  }
}

// As a recipe tells it.
export function followed({ image, strength, ip_adapter: adapter }) {
  return adapter ? { image, strength, ip_adapter: { name: adapter.name, sha256: adapter.sha256 } } : { image, strength };
}
