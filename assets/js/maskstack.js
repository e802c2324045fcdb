// Masks one above the other on one picture: the brush works on one of them, and what the visible ones cover
// together is filled. Every change can be taken back, also after a reload.

import { Bands, bandsOf } from "./bands.js";
import { INKS } from "./inks.js";
import { cut, sheet, tinted } from "./masks.js";
import { Past } from "./past.js";
import { packed, unpacked } from "./runs.js";

export const MOST_MASKS = INKS.length;

export class MaskStack {
  constructor(width, height) {
    Object.assign(this, { width, height, layers: [], edits: 0, touched: null, next: 1, past: new Past(), stroke: null });
    this.#put(this.#fresh(), 0);
  }

  static recall({ width, height, layers, active, next, done, undone }) {
    const masks = new MaskStack(width, height);
    masks.layers = [];
    layers.forEach((layer, index) => masks.#put(layer, index));
    return Object.assign(masks, { active, next, past: new Past(done, undone) });
  }

  // All of it, as plain values.
  get kept() {
    const { width, height, active, next, past } = this;
    const layers = this.layers.map((layer) => this.#plain(layer));
    return { width, height, layers, active, next, done: [...past.done], undone: [...past.undone] };
  }

  get layer() {
    return this.layers.find((layer) => layer.id === this.active);
  }

  get visible() {
    return this.layers.filter((layer) => !layer.hidden);
  }

  // What is filled: a number for each pixel, 0 to 255.
  get union() {
    const whole = new Uint8ClampedArray(this.width * this.height);
    for (const { alpha } of this.visible) for (let i = 0; i < whole.length; i++) if (alpha[i] > whole[i]) whole[i] = alpha[i];
    return whole;
  }

  get isEmpty() {
    return this.visible.every(isBare);
  }

  // Whether something is covered that is not filled, since it is hidden.
  get hides() {
    return this.layers.some((layer) => layer.hidden && !isBare(layer));
  }

  // The layers

  add() {
    const layer = this.#fresh();
    this.past.note({ added: true, at: this.layers.length, layer: this.#plain(this.#put(layer, this.layers.length)) });
  }

  remove(id) {
    const at = this.layers.findIndex((layer) => layer.id === id);
    this.past.note({ added: false, at, layer: this.#plain(this.layers[at]) });
    this.#takeAway(at);
  }

  rename(id, name) {
    this.#set(id, "name", name);
  }

  hide(id, hidden) {
    this.#set(id, "hidden", hidden);
  }

  #set(id, field, value) {
    const layer = this.#of(id);
    if (layer[field] === value) return;
    this.past.note({ id, field, from: layer[field], to: value });
    layer[field] = value;
    this.edits++;
  }

  // What the brush works on is seen.
  choose(id) {
    this.active = id;
    this.hide(id, false);
  }

  #of(id) {
    return this.layers.find((layer) => layer.id === id);
  }

  #fresh() {
    const worn = this.layers.map((layer) => layer.tint);
    const id = this.next++;
    const tint = INKS.findIndex((_, index) => !worn.includes(index));
    return { id, name: `Mask ${id}`, tint, hidden: false, runs: packed(new Uint8Array(this.width * this.height)) };
  }

  #put({ id, name, tint, hidden, runs }, at) {
    const alpha = unpacked(runs, this.width * this.height);
    const layer = { id, name, tint, hidden, alpha, sheet: sheet(this.width, this.height), edits: 0, touched: null, runs: null };
    this.layers.splice(at, 0, layer);
    this.active = id;
    this.#show(layer, [[0, 0, this.width, this.height]]);
    return layer;
  }

  #takeAway(at) {
    const [gone] = this.layers.splice(at, 1);
    if (this.active === gone.id) this.active = this.layers[Math.max(0, at - 1)].id;
    if (this.layers.length === 1) this.layers[0].hidden = false; // one alone has nothing to hide behind
    this.edits++;
  }

  #plain(layer) {
    layer.runs ??= packed(layer.alpha);
    const { id, name, tint, hidden, runs } = layer;
    return { id, name, tint, hidden, runs };
  }

  // Changes of the one that is worked on

  // All of it at once: `change(alpha)` gives another.
  edit(change) {
    this.layer.hidden = false;
    const whole = [0, 0, this.width, this.height];
    this.#become(this.layer, whole, [whole], () => change(this.layer.alpha.slice()));
  }

  begin(at, { size, erasing }) {
    this.layer.hidden = false;
    this.stroke = { layer: this.layer, at, size, erasing, bands: new Bands(this.width, this.height) };
    this.to(at);
  }

  to(at) {
    const { layer, at: from, size, erasing, bands } = this.stroke;
    const pen = layer.sheet.getContext("2d");
    pen.globalCompositeOperation = erasing ? "destination-out" : "source-over";
    pen.strokeStyle = INKS[layer.tint];
    pen.lineWidth = size;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(at.x, at.y);
    pen.stroke();
    pen.globalCompositeOperation = "source-over";
    bands.addLine(from, at, size / 2 + 2);
    this.stroke.at = at;
  }

  end() {
    const { layer, bands } = this.#ended();
    const pen = layer.sheet.getContext("2d");
    if (bands.box) this.#become(layer, bands.box, bands.boxes, (part) => alphaOf(pen.getImageData(...part)));
  }

  // It was no stroke.
  giveUp() {
    const { layer, bands } = this.#ended();
    this.#show(layer, bands.boxes);
  }

  #ended() {
    const { stroke } = this;
    this.stroke = null;
    return stroke;
  }

  // What a layer becomes in parts of a box: `valuesIn(part)`. Outside of them it stays as it is.
  #become(layer, box, parts, valuesIn) {
    const change = new Uint8ClampedArray(box[2] * box[3]);
    let changed = false;
    for (const part of parts) {
      const values = valuesIn(part);
      const [left, top, across, down] = part;
      for (let y = 0, from = 0; y < down; y++) {
        let at = (top + y) * this.width + left;
        let place = (top + y - box[1]) * box[2] + left - box[0];
        for (const end = from + across; from < end; from++, at++, place++) {
          if (layer.alpha[at] === values[from]) continue;
          change[place] = layer.alpha[at] ^ values[from];
          layer.alpha[at] = values[from];
          changed = true;
        }
      }
    }
    if (changed) this.past.note({ id: layer.id, box, runs: packed(change) });
    this.#show(layer, parts);
  }

  // A change is what differs, bit by bit: the same step leads there and back.
  #flip(layer, box, change) {
    const [left, top, across, down] = box;
    for (let y = 0, place = 0; y < down; y++) {
      for (let x = 0, at = (top + y) * this.width + left; x < across; x++, at++, place++) layer.alpha[at] ^= change[place];
    }
    this.#show(layer, bandsOf(change, box, this.width, this.height).boxes);
  }

  #show(layer, boxes) {
    for (const box of boxes) {
      const image = tinted(cut(layer.alpha, this.width, box), box[2], box[3], inkOf(layer));
      layer.sheet.getContext("2d").putImageData(image, box[0], box[1]);
    }
    layer.runs = null;
    // Who drew it as it was before has only these boxes to draw anew.
    layer.touched = { after: layer.edits, boxes };
    this.touched = { after: this.edits, boxes };
    layer.edits = ++this.edits;
  }

  // The way back, and forth again: the change, where it is not one of the masks, is for whoever noted it.

  undo() {
    return this.#turn(this.past.back(), true);
  }

  redo() {
    return this.#turn(this.past.forth(), false);
  }

  #turn(change, back) {
    if (!change) return null;
    if (change.box) {
      const layer = this.#of(change.id);
      layer.hidden = false;
      this.active = layer.id;
      this.#flip(layer, change.box, unpacked(change.runs, change.box[2] * change.box[3]));
    } else if (change.layer) {
      if (change.added === back) this.#takeAway(change.at);
      else this.#put(change.layer, change.at);
    } else if (change.field) {
      this.#of(change.id)[change.field] = back ? change.from : change.to;
      this.edits++;
    } else return change;
    return null;
  }
}

// The tint that a layer wears, as red, green and blue.
export function inkOf({ tint }) {
  return [1, 3, 5].map((at) => Number.parseInt(INKS[tint].slice(at, at + 2), 16));
}

function alphaOf({ data }) {
  const alpha = new Uint8ClampedArray(data.length / 4);
  for (let place = 0; place < alpha.length; place++) alpha[place] = data[4 * place + 3];
  return alpha;
}

function isBare({ alpha }) {
  return alpha.every((value) => value === 0);
}
