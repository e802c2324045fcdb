// The board: a picture with masks over it, seen from near or far. All of it happens in the browser.

import { flood, grown, sheet, spread } from "./masks.js";
import { MaskStack } from "./maskstack.js";
import { Pointing } from "./pointing.js";
import { Veil } from "./veil.js";

const NOTHING = [0, 0, 0, 0];

export class Board {
  // `changed()` hears of every other mask, `drawn()` of every other view, `grew(pixels)` of growth taken back.
  constructor(canvas, { changed, drawn, grew }) {
    Object.assign(this, { canvas, changed, drawn, grew });
    this.tool = "brush";
    this.size = 36;
    this.tolerance = 24;
    this.picture = null;
    this.margins = NOTHING; // by how much it grows to the left, top, right and bottom
    this.before = null; // what lies under the masks: the picture, grown
    this.masks = null;
    this.after = null; // a fill, shown instead of it from `wipe` on
    this.wipe = 0;
    this.preview = null;
    this.over = null; // another fill, which shows where the mask covers
    this.view = { scale: 1, x: 0, y: 0 };
    this.veil = new Veil();
    this.pointing = new Pointing(this);
    this.fitted = true; // until she looks from nearer, which stays so when the board has more room or less
    new ResizeObserver(() => (this.fitted ? this.fit() : this.#reframe())).observe(canvas.parentElement);
  }

  get locked() {
    return !this.before || this.after !== null || this.preview !== null || this.masks.stroke !== null;
  }

  // `masks` are those that were kept of this picture, if any.
  open(bitmap, margins = NOTHING, masks = null) {
    this.picture = bitmap;
    this.margins = margins;
    this.before = grown(bitmap, margins);
    this.after = this.preview = null;
    const fits = masks?.width === bitmap.width && masks.height === bitmap.height;
    this.masks = fits ? MaskStack.recall(masks) : new MaskStack(bitmap.width, bitmap.height);
    this.fit();
    this.changed();
  }

  // Lets the picture grow, or shrink back. Held, it stays where it is on the page as long as there is room, and so
  // it does where she looks from nearer and nothing changes.
  extend(margins, { held = false } = {}) {
    if (this.locked) return;
    const by = margins.map((side, index) => side - this.margins[index]);
    if (by.some(Boolean)) this.before = grown(this.picture, margins);
    this.margins = margins;
    const { scale, x, y } = this.view;
    this.view = { scale, x: x - by[0] * scale, y: y - by[1] * scale };
    const stays = this.fitted ? held && this.#isWhole : held || !by.some(Boolean);
    if (stays) this.draw();
    else this.fit();
  }

  get #isWhole() {
    const { scale, x, y } = this.view;
    const [right, bottom] = [x + scale * this.before.width, y + scale * this.before.height];
    return x >= 0 && y >= 0 && right <= this.canvas.width && bottom <= this.canvas.height;
  }

  // Brushes one fill over another, with a mask of its own, until `unweave`.
  weave(under, over) {
    const { before, picture, masks, margins } = this;
    const { width, height } = before;
    this.aside ??= { before, picture, masks, margins };
    const fitted = (bitmap) => {
      const copy = sheet(width, height);
      copy.getContext("2d").drawImage(bitmap, 0, 0, width, height);
      return copy;
    };
    this.over = fitted(over);
    if (under === this.under) return this.draw();
    this.under = under;
    this.before = this.picture = fitted(under);
    this.margins = NOTHING;
    this.after = this.preview = null;
    this.masks = new MaskStack(width, height);
    return this.draw();
  }

  unweave() {
    if (!this.aside) return;
    Object.assign(this, this.aside);
    this.aside = this.over = this.under = null;
    this.draw();
  }

  close() {
    this.before = this.after = this.preview = this.masks = null;
    this.draw();
  }

  // Makes the canvas as large as its frame; false where there is none to be seen.
  #frame() {
    const frame = this.canvas.parentElement.getBoundingClientRect();
    if (!frame.width || !frame.height) return false;
    const dense = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(frame.width * dense);
    this.canvas.height = Math.round(frame.height * dense);
    return true;
  }

  fit() {
    if (!this.#frame()) return;
    this.fitted = true;
    if (this.before) {
      const margin = 28 * (window.devicePixelRatio || 1);
      const { width, height } = this.before;
      const scale = Math.min((this.canvas.width - 2 * margin) / width, (this.canvas.height - 2 * margin) / height);
      this.view = { scale, x: (this.canvas.width - scale * width) / 2, y: (this.canvas.height - scale * height) / 2 };
      // A brush that is of some use on this picture, until she chooses her own.
      this.size = this.chosen ?? Math.max(4, Math.round(Math.min(this.picture.width, this.picture.height) / 9));
    }
    this.draw();
  }

  // Keeps in the middle what is there.
  #reframe() {
    const { width, height } = this.canvas;
    if (this.#frame()) this.move((this.canvas.width - width) / 2, (this.canvas.height - height) / 2);
  }

  move(right, down) {
    this.fitted = false;
    this.view = { ...this.view, x: this.view.x + right, y: this.view.y + down };
    this.draw();
  }

  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const scale = Math.min(Math.max(this.view.scale * factor, 0.05), 40);
    const by = scale / this.view.scale;
    this.fitted = false;
    this.view = { scale, x: x - by * (x - this.view.x), y: y - by * (y - this.view.y) };
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const { scale, x, y } = this.view;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.drawn();
    if (!this.before) return;
    pen.setTransform(scale, 0, 0, scale, x, y);
    pen.imageSmoothingQuality = "high";
    pen.imageSmoothingEnabled = scale < 4;
    pen.drawImage(this.before, 0, 0);
    if (this.after) this.#drawAfter(pen);
    else if (this.preview) this.#drawPreview(pen);
    else this.#drawMasks(pen);
  }

  #drawAfter(pen) {
    const { width, height } = this.before;
    const at = width * this.wipe;
    pen.save();
    pen.beginPath();
    pen.rect(at, 0, width - at, height);
    pen.clip();
    pen.drawImage(this.after, 0, 0, width, height);
    pen.restore();
    if (this.wipe === 0 || this.wipe === 1) return;
    pen.fillStyle = "#efe8dc";
    pen.fillRect(at - 0.75 / this.view.scale, 0, 1.5 / this.view.scale, height);
  }

  #drawPreview(pen) {
    const { bitmap, region } = this.preview;
    const { width, height } = this.before;
    const place = [region.left * width, region.top * height, region.width * width, region.height * height];
    pen.drawImage(this.veil.shownBy(this.masks, this.margins, bitmap, ...place), 0, 0);
  }

  #drawMasks(pen) {
    const { scale } = this.view;
    if (this.over) pen.drawImage(this.veil.shownBy(this.masks, this.margins, this.over, 0, 0), 0, 0);
    else this.veil.draw(pen, this.masks, this.margins, scale);
    const { at } = this.pointing;
    if (!at || this.tool === "wand") return;
    pen.lineWidth = 1.5 / scale;
    pen.strokeStyle = "#efe8dc";
    pen.beginPath();
    pen.arc(at.x, at.y, this.size / 2, 0, 2 * Math.PI);
    pen.stroke();
  }

  // What can be done to a mask as a whole

  invert() {
    this.#edit((alpha) => alpha.map((value) => 255 - value));
  }

  grow(pixels) {
    this.#edit((alpha) => spread(alpha, this.masks.width, this.masks.height, pixels));
  }

  clear() {
    this.#edit((alpha) => alpha.fill(0));
  }

  // Covers what lies together with a place of the picture and is alike in colour.
  coverAlike(at) {
    const { width, height } = this.picture;
    const [x, y] = [Math.floor(at.x), Math.floor(at.y)];
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const copy = sheet(width, height).getContext("2d");
    copy.drawImage(this.picture, 0, 0);
    this.#edit((alpha) => flood(copy.getImageData(0, 0, width, height), alpha, x, y, this.tolerance));
  }

  undo() {
    if (this.locked) return;
    const change = this.masks.undo();
    if (change) this.grew(change.from);
    this.#edited();
  }

  redo() {
    if (this.locked) return;
    const change = this.masks.redo();
    if (change) this.grew(change.to);
    this.#edited();
  }

  #edit(change) {
    if (this.locked) return;
    this.masks.edit(change);
    this.#edited();
  }

  #edited() {
    this.draw();
    this.changed();
  }

  // What all visible masks cover as a file: white on black, as the studio reads it.
  async file() {
    const { width, height, union } = this.masks;
    const image = new ImageData(width, height);
    for (let i = 0; i < union.length; i++) image.data.set([union[i], union[i], union[i], 255], 4 * i);
    const copy = sheet(width, height);
    copy.getContext("2d").putImageData(image, 0, 0);
    return new Promise((resolve) => copy.toBlob(resolve, "image/png"));
  }
}
