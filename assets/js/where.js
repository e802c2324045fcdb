// Styles over the canvas: where each of them paints, brushed on by hand over the stage.

import { button, el } from "./dom.js";
import { hear, tell } from "./desk.js";
import { brush, bytesOf, dab, inked, textOf } from "./region.js";

export class Where {
  // `wall` is the element of the stage to lie over; the brush paints for the style that is picked.
  constructor(wall) {
    this.wall = wall;
    this.aspect = 1;
    this.canvas = el("canvas.where-canvas", { "aria-label": "Where each style paints" });
    this.root = el("div.where", { hidden: true }, this.canvas);
    this.words = el("p.where-words");
    this.size = el("input.where-size", { type: "range", min: 1, max: 12, step: 0.5, value: 5, "aria-label": "Size of the brush" });
    this.eraser = button("Eraser", "close", () => this.#erase(!this.erasing));
    this.tools = el("div.where-tools", {}, this.words, el("label.where-brush", {}, "Brush", this.size), this.eraser,
      button("Clear", "bin", () => this.#put(null)));
    wall.append(this.root);
    hear("format:blend-stage", ({ width, height }) => {
      this.aspect = width / height;
      this.#fit();
    });
    new ResizeObserver(() => this.#fit()).observe(wall);
    this.#listen();
    this.#erase(false);
  }

  // Shows the regions of a mix, and which style the brush belongs to.
  show(styles, picked) {
    this.styles = styles;
    this.picked = picked;
    this.words.replaceChildren(...(picked
      ? ["Brush over the picture where ", el("em", { style: `color: ${picked.colour}` }, picked.name), " belongs. Without a region it fills the rest."]
      : ["Put a style on the palette to say where it belongs."]));
    this.#draw();
  }

  turn(open) {
    this.root.hidden = !open;
    if (open) this.#fit();
  }

  #erase(erasing) {
    this.erasing = erasing;
    this.eraser.setAttribute("aria-pressed", String(erasing));
  }

  #put(region, style = this.picked) {
    if (!style) return;
    style.region = region;
    tell("region", { name: style.name, region });
    this.#draw();
  }

  #listen() {
    brush(this.canvas, {
      begin: () => {
        if (!this.picked) return false;
        this.regions = new Map(this.styles.map((style) => [style, bytesOf(style.region)]));
        return true;
      },
      touch: (place) => this.#dab(place),
      draw: () => this.#draw(),
      end: () => {
        const painted = this.regions;
        this.regions = null;
        for (const [style, bytes] of painted) {
          const region = bytes.some(Boolean) ? textOf(bytes) : null;
          if (region !== (style.region ?? null)) this.#put(region, style);
        }
      },
    });
  }

  // Fresh paint covers what another style had there.
  #dab(place) {
    dab(place, this.size.valueAsNumber, this.aspect, (cell, amount) => {
      for (const [style, bytes] of this.regions) {
        if (style === this.picked && !this.erasing) bytes[cell] = Math.max(bytes[cell], amount);
        else if (style !== this.picked && this.erasing) continue;
        else bytes[cell] = Math.min(bytes[cell], 255 - amount);
      }
    });
  }

  #fit() {
    const room = getComputedStyle(this.root);
    const inner = [this.root.clientWidth - parseFloat(room.paddingLeft) * 2, this.root.clientHeight - parseFloat(room.paddingTop) * 2];
    if (inner[0] <= 0 || inner[1] <= 0) return;
    const width = Math.min(inner[0], inner[1] * this.aspect);
    this.canvas.style.width = `${Math.round(width)}px`;
    this.canvas.style.height = `${Math.round(width / this.aspect)}px`;
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round((width / this.aspect) * devicePixelRatio);
    this.#draw();
  }

  #draw() {
    if (this.root.hidden || !this.styles) return;
    const { canvas } = this;
    const context = canvas.getContext("2d");
    context.fillStyle = "#221e1a";
    context.fillRect(0, 0, canvas.width, canvas.height);
    // The picture that is there is what she paints over.
    const film = this.wall.querySelector(".film-canvas");
    if (film?.width > 0) {
      context.globalAlpha = 0.55;
      context.drawImage(film, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = 1;
    }
    context.imageSmoothingQuality = "high";
    for (const style of this.styles) {
      const bytes = this.regions?.get(style) ?? bytesOf(style.region);
      context.globalAlpha = style === this.picked ? 0.72 : 0.5;
      context.drawImage(inked(bytes, style.colour), 0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = 1;
  }
}
