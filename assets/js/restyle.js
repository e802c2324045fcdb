// A picture to restyle: brought from the artist's disk or from her gallery, and how far to go from it.

import { button, el, parseJSON } from "./dom.js";
import { goTo, hear, say, tell } from "./desk.js";
import { signed } from "./welcome.js";

const STRENGTH = 0.6;

// Takes a kept picture to the mixing desk.
export function restyle(artwork) {
  tell("restyle", artwork);
  goTo("style-blending");
}

// Brings a picture into the studio; what it is called and how large it is, or null and a sentence said.
export async function bringPicture(request) {
  const answer = await request;
  const told = parseJSON(await answer.text());
  if (answer.ok) return told;
  say(told.sentence ?? "This picture could not be read.");
  return null;
}

export async function sendPicture(file) {
  await signed();
  return bringPicture(fetch("/sources", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } }));
}

export class Restyle {
  // `onChange` hears of another picture or strength, `shape(width, height)` of the sides of a new picture, and
  // `steps()` tells how many steps a run has.
  constructor({ onChange, shape, steps }) {
    Object.assign(this, { onChange, shape, steps });
    this.file = el("input", { type: "file", accept: "image/*,.heic,.heif", hidden: true, "aria-label": "A picture to restyle" });
    this.open = el("button.restyle-open", { type: "button", onclick: () => this.file.click() }, "Restyle a picture of yours");
    this.image = el("img.restyle-image", { alt: "The picture to restyle" });
    this.strength = el("input.restyle-strength", { type: "range", min: 0.05, max: 1, step: 0.05, value: STRENGTH, "aria-label": "How far to go from the picture" });
    this.words = el("p.restyle-words");
    this.held = el("div.restyle-held", { hidden: true }, this.image,
      el("div", {}, el("label", {}, "How far from it"), this.strength, this.words),
      button("Let the picture go", "close", () => this.#hold(null), { bare: true }));
    this.root = el("section.restyle", { "aria-label": "Restyle" }, this.file, this.open, this.held);
    this.#listen();
  }

  // What a recipe says of it; null when the mix begins from noise.
  get told() {
    return this.source ? { image: this.source, strength: this.strength.valueAsNumber } : null;
  }

  load(source) {
    if (source) this.strength.value = String(source.strength);
    this.#hold(source?.image ?? null);
  }

  #hold(source, url = `/sources/${source}`) {
    this.source = source;
    this.held.hidden = source === null;
    this.open.hidden = source !== null;
    if (source === null) this.image.removeAttribute("src");
    else this.image.src = url;
    this.tell();
    this.onChange();
  }

  // The strength as a step of the run.
  tell() {
    const steps = this.steps();
    const painted = Math.max(1, Math.min(steps, Math.floor(steps * this.strength.valueAsNumber + 1e-9)));
    this.words.textContent = painted === steps ? "From pure noise: nothing of it is kept." : `Begins at step ${steps - painted + 1} of ${steps}.`;
  }

  async #bring(bringing, url) {
    const told = await bringing;
    if (!told) return;
    this.shape(told.width, told.height);
    this.#hold(told.source, url);
  }

  #take(file) {
    if (file) this.#bring(sendPicture(file));
  }

  #listen() {
    this.image.addEventListener("error", () => {
      if (!this.source) return;
      this.#hold(null);
      say("The picture that this one began from is not yours: bring one of your own.");
    });
    this.file.addEventListener("change", () => {
      this.#take(this.file.files[0]);
      this.file.value = "";
    });
    this.strength.addEventListener("input", () => {
      this.tell();
      this.onChange();
    });
    this.root.addEventListener("dragover", (event) => event.preventDefault());
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#take(event.dataTransfer.files[0]);
    });
    hear("restyle", (artwork) => {
      this.#bring(bringPicture(fetch(`/sources/from/${encodeURIComponent(artwork)}`, { method: "POST" })), `/artworks/${artwork}.png`);
    });
  }
}
