// Styles over the canvas: where each of them paints, brushed on by hand over the stage.

import { button, el } from "./dom.js";
import { hear, tell } from "./desk.js";

const SIDE = 32; // cells of a region, as pipelines/styles.py has them
const STEP = 1; // cells between two dabs

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
    const at = (event) => {
      const { left, top, width, height } = this.canvas.getBoundingClientRect();
      return { x: ((event.clientX - left) / width) * SIDE, y: ((event.clientY - top) / height) * SIDE };
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.picked) return;
      this.canvas.setPointerCapture(event.pointerId);
      this.regions = new Map(this.styles.map((style) => [style, bytesOf(style.region)]));
      this.last = at(event);
      this.#dab(this.last);
      this.#draw();
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.regions) return;
      const to = at(event);
      const far = Math.hypot(to.x - this.last.x, to.y - this.last.y);
      for (let gone = STEP; gone <= far; gone += STEP) {
        this.#dab({ x: this.last.x + ((to.x - this.last.x) * gone) / far, y: this.last.y + ((to.y - this.last.y) * gone) / far });
      }
      if (far >= STEP) this.last = to;
      this.#draw();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => {
        if (!this.regions) return;
        const painted = this.regions;
        this.regions = null;
        for (const [style, bytes] of painted) {
          const region = bytes.some(Boolean) ? textOf(bytes) : null;
          if (region !== (style.region ?? null)) this.#put(region, style);
        }
      });
    }
  }

  // One touch of a round, soft brush; fresh paint covers what another style had there.
  #dab({ x, y }) {
    const radius = this.size.valueAsNumber;
    const [wide, high] = this.aspect > 1 ? [1, this.aspect] : [1 / this.aspect, 1];
    for (let row = 0; row < SIDE; row += 1) {
      for (let column = 0; column < SIDE; column += 1) {
        const far = Math.hypot((column + 0.5 - x) / wide, (row + 0.5 - y) / high) / radius;
        const amount = Math.round(255 * Math.min(1, Math.max(0, (1 - far) * 2)));
        if (amount === 0) continue;
        const cell = row * SIDE + column;
        for (const [style, bytes] of this.regions) {
          if (style === this.picked && !this.erasing) bytes[cell] = Math.max(bytes[cell], amount);
          else if (style !== this.picked && this.erasing) continue;
          else bytes[cell] = Math.min(bytes[cell], 255 - amount);
        }
      }
    }
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

function bytesOf(region) {
  return region ? Uint8Array.from(atob(region), (letter) => letter.charCodeAt(0)) : new Uint8Array(SIDE * SIDE);
}

function textOf(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

function inked(bytes, colour) {
  const sheet = new OffscreenCanvas(SIDE, SIDE);
  const context = sheet.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  bytes.forEach((amount, cell) => image.data.set([red, green, blue, amount], 4 * cell));
  context.putImageData(image, 0, 0);
  return sheet;
}
