// The outline of what was painted, over the film of a picture of which only a part was.

import { el } from "./dom.js";

const HALF = 128;

export class Outline {
  constructor(film) {
    this.film = film;
    this.canvas = el("canvas.film-outline", { "aria-hidden": "true", hidden: true });
    film.screen.append(this.canvas);
    new ResizeObserver(() => this.#draw()).observe(film.canvas);
  }

  // Another timeline is on the film, or none.
  async show(told) {
    this.told = told;
    this.mask = null;
    this.canvas.hidden = true;
    if (!told?.mask) return;
    const answer = await fetch(told.mask);
    if (!answer.ok) return;
    const mask = covered(await createImageBitmap(await answer.blob()));
    if (this.told !== told) return;
    this.mask = mask;
    this.#draw();
  }

  #draw() {
    const { width, height, style } = this.film.canvas;
    this.canvas.hidden = !this.mask || width === 0;
    if (this.canvas.hidden) return;
    Object.assign(this.canvas, { width, height });
    Object.assign(this.canvas.style, { width: style.width, height: style.height });
    const pen = this.canvas.getContext("2d");
    // A light line with a dark one around it is seen on every picture.
    const line = 1.5 * devicePixelRatio;
    pen.drawImage(this.#rim(2 * line, "rgba(15, 12, 10, 0.55)"), 0, 0);
    pen.drawImage(this.#rim(line, "#fff8ef"), 0, 0);
  }

  // What lies within `reach` outside the mask.
  #rim(reach, ink) {
    const { width, height } = this.canvas;
    const rim = new OffscreenCanvas(width, height);
    const pen = rim.getContext("2d");
    for (let turn = 0; turn < 12; turn++) {
      const [x, y] = [reach * Math.cos((turn * Math.PI) / 6), reach * Math.sin((turn * Math.PI) / 6)];
      pen.drawImage(this.mask, x, y, width, height);
    }
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = ink;
    pen.fillRect(0, 0, width, height);
    pen.globalCompositeOperation = "destination-out";
    pen.drawImage(this.mask, 0, 0, width, height);
    return rim;
  }
}

// White becomes opaque and black clear, with a smooth edge in between.
function covered(grey) {
  const canvas = new OffscreenCanvas(grey.width, grey.height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(grey, 0, 0);
  grey.close();
  const image = pen.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = image;
  for (let place = 0; place < data.length; place += 4) data[place + 3] = 4 * (data[place] - HALF) + HALF;
  pen.putImageData(image, 0, 0);
  return canvas;
}
