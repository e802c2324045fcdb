// Only here: where a branch may change, brushed on over the film. What is to stay as it is lies under a veil.

import { el } from "./dom.js";
import { brush, bytesOf, dab, inked, textOf } from "./region.js";

const VEIL = "rgba(20, 17, 15, 0.68)";

export class Only {
  // `onChange` hears when what may change is another part.
  constructor(film, onChange) {
    Object.assign(this, { film, onChange, bytes: bytesOf(null) });
    this.canvas = el("canvas.only-canvas", { role: "img", "aria-label": "Where the branch may change" });
    this.ring = el("div.only-ring", { "aria-hidden": "true" });
    this.over = el("div.only", { hidden: true }, this.canvas, this.ring);
    film.screen.append(this.over);
    this.choices = [[false, "Everywhere"], [true, "Only where I paint"]].map(([on, name]) => el("button.only-choice", {
      type: "button", onclick: () => this.turn(on),
    }, name));
    this.size = el("input.where-size", { type: "range", min: 1, max: 12, step: 0.5, value: 4, "aria-label": "Size of the brush" });
    const tool = (name, onclick) => el("button.quiet", { type: "button", onclick }, name);
    this.eraser = tool("Eraser", () => this.#erase(!this.erasing));
    this.tools = el("div.only-tools", {}, el("label.where-brush", {}, "Brush", this.size), this.eraser, tool("Clear", () => this.load(null, true)));
    this.words = el("p.only-words", {}, "Brush over the picture where it may change. Under the veil it stays, to the last bit.");
    this.root = el("div.branch-field.only-field", { role: "group", "aria-label": "Where it may change" },
      el("span.only-title", { "aria-hidden": "true" }, "Where it may change"), el("div.only-choices", {}, ...this.choices), this.tools, this.words);
    new ResizeObserver(() => this.#draw()).observe(film.canvas);
    this.#listen();
    this.#erase(false);
    this.turn(false);
  }

  // What a branch's recipe says: a region, or null where all of it may change.
  get told() {
    return this.isOn ? textOf(this.bytes) : null;
  }

  load(region, on = Boolean(region)) {
    this.bytes = bytesOf(region);
    this.turn(on);
  }

  turn(on) {
    this.isOn = on;
    this.over.hidden = !on;
    this.root.toggleAttribute("data-on", on);
    this.choices.forEach((choice, index) => choice.setAttribute("aria-pressed", String(on === (index === 1))));
    this.#draw();
    this.onChange();
  }

  // The panel is closed: nothing lies over the film, and what was painted is kept until another timeline comes.
  rest(resting) {
    this.over.hidden = resting || !this.isOn;
    this.#draw();
  }

  #erase(erasing) {
    this.erasing = erasing;
    this.eraser.setAttribute("aria-pressed", String(erasing));
  }

  #listen() {
    brush(this.canvas, {
      begin: () => true,
      touch: (place) => dab(place, this.size.valueAsNumber, this.film.aspect, (cell, amount) => {
        const { bytes } = this;
        bytes[cell] = this.erasing ? Math.min(bytes[cell], 255 - amount) : Math.max(bytes[cell], amount);
      }),
      draw: () => this.#draw(),
      end: () => this.onChange(),
    });
    const { canvas, ring } = this;
    canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => {
      const across = (this.size.valueAsNumber / 16) * Math.max(canvas.clientWidth, canvas.clientHeight);
      Object.assign(ring.style, { width: `${across}px`, transform: `translate(${offsetX - across / 2}px, ${offsetY - across / 2}px)` });
    });
  }

  #draw() {
    if (this.over.hidden) return;
    const { canvas, film } = this;
    Object.assign(this.over.style, { width: film.canvas.style.width, height: film.canvas.style.height });
    Object.assign(canvas, { width: film.canvas.width, height: film.canvas.height });
    const context = canvas.getContext("2d");
    context.fillStyle = VEIL;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "destination-out";
    context.imageSmoothingQuality = "high";
    context.drawImage(inked(this.bytes, "#000000"), 0, 0, canvas.width, canvas.height);
  }
}
