// How masks lie over their picture: each in its tint, fading out as far as it is feathered, with a rim around it.

import { around, beyond, cut, feathered, sheet, tinted } from "./masks.js";
import { inkOf } from "./maskstack.js";

const VEIL = 0.5;
const PAPER = "#fff8ef";
const MARGIN = [224, 86, 59];

export class Veil {
  constructor() {
    this.feather = 0; // in pixels of the picture as shown
    this.soft = new WeakMap();
    this.rim = this.margin = null;
  }

  // Draws the masks of a picture that has grown by `margins`.
  draw(pen, masks, margins, scale) {
    pen.globalAlpha = VEIL;
    if (margins.some(Boolean)) pen.drawImage(this.#margin(masks, margins), 0, 0);
    for (const layer of masks.visible) pen.drawImage(this.#tint(masks, layer), margins[0], margins[1]);
    pen.globalAlpha = 1;
    if (!masks.stroke) pen.drawImage(this.#rim(masks, scale), margins[0], margins[1]);
    if (!margins.some(Boolean)) return;
    pen.strokeStyle = PAPER;
    pen.lineWidth = 1 / scale;
    pen.strokeRect(margins[0], margins[1], masks.width, masks.height);
  }

  // What of an image is painted, wherever it lies.
  shownBy(masks, margins, image, ...place) {
    const [left, top, right, bottom] = margins;
    const part = sheet(masks.width + left + right, masks.height + top + bottom);
    const pen = part.getContext("2d");
    if (margins.some(Boolean)) pen.drawImage(this.#margin(masks, margins), 0, 0);
    for (const layer of masks.visible) pen.drawImage(this.#tint(masks, layer), left, top);
    pen.globalCompositeOperation = "source-in";
    pen.drawImage(image, ...place);
    return part;
  }

  // A layer with its soft edge; under the brush, the edge of before with what has been added.
  #tint(masks, layer) {
    const { stroke } = masks;
    if (this.feather === 0 || (stroke?.layer === layer && stroke.erasing)) return layer.sheet;
    const { width, height } = masks;
    const { edits, touched } = layer;
    let known = this.soft.get(layer);
    if (known?.edits !== edits || known.feather !== this.feather) {
      const isNext = known?.edits === touched.after && known.feather === this.feather;
      known = { edits, feather: this.feather, sheet: known?.sheet ?? sheet(width, height) };
      for (const box of isNext ? touched.boxes : [[0, 0, width, height]]) this.#soften(known.sheet, layer, box);
      this.soft.set(layer, known);
    }
    if (stroke?.layer === layer) {
      const pen = known.sheet.getContext("2d");
      for (const box of stroke.bands.boxes) pen.drawImage(layer.sheet, ...box, ...box); // drawn anew at its end
    }
    return known.sheet;
  }

  // Draws the soft edge of a layer anew where a change in a box is felt.
  #soften(whole, layer, box) {
    const { width, height } = whole;
    const [left, top, across, down] = around(box, this.feather, width, height);
    const part = around(box, 2 * this.feather, width, height);
    const alpha = feathered(cut(layer.alpha, width, part), part[2], part[3], this.feather);
    const image = tinted(alpha, part[2], part[3], inkOf(layer));
    whole.getContext("2d").putImageData(image, part[0], part[1], left - part[0], top - part[1], across, down);
  }

  #margin(masks, margins) {
    const now = JSON.stringify([masks.width, masks.height, margins, this.feather]);
    if (this.margin?.now === now) return this.margin.sheet;
    const [width, height] = [masks.width + margins[0] + margins[2], masks.height + margins[1] + margins[3]];
    const made = sheet(width, height);
    made.getContext("2d").putImageData(tinted(beyond(width, height, margins, this.feather), width, height, MARGIN), 0, 0);
    this.margin = { now, sheet: made };
    return made;
  }

  // The rims, so that masks are seen on a picture of their own colour too: that of the one under the brush is light.
  #rim(masks, scale) {
    const { width, height, edits, touched, visible } = masks;
    const now = JSON.stringify([visible.map((layer) => layer.id), masks.active, scale]);
    const known = this.rim?.masks === masks && this.rim.now === now ? this.rim : null;
    if (known?.edits === edits) return known.sheet;
    const reach = Math.max(0.75, 1.5 / scale);
    const isNext = known?.edits === touched.after;
    const all = isNext ? known.sheet : sheet(width, height);
    const pen = all.getContext("2d");
    const layers = [...visible.filter((one) => one !== masks.layer), ...visible.filter((one) => one === masks.layer)];
    for (const touch of isNext ? touched.boxes : [[0, 0, width, height]]) {
      const box = around(touch, Math.ceil(reach) + 1, width, height);
      pen.clearRect(...box);
      for (const layer of layers) pen.drawImage(rimOf(layer, box, reach, layer === masks.layer ? PAPER : null), box[0], box[1]);
    }
    this.rim = { masks, now, edits, sheet: all };
    return all;
  }
}

// What lies in a box within `reach` around a layer, in an ink or in its own tint.
function rimOf(layer, [left, top, width, height], reach, ink) {
  const rim = sheet(width, height);
  const pen = rim.getContext("2d");
  pen.translate(-left, -top);
  for (let turn = 0; turn < 8; turn++) pen.drawImage(layer.sheet, reach * Math.cos((turn * Math.PI) / 4), reach * Math.sin((turn * Math.PI) / 4));
  if (ink) {
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = ink;
    pen.fillRect(left, top, width, height);
  }
  pen.globalCompositeOperation = "destination-out";
  pen.drawImage(layer.sheet, 0, 0);
  return rim;
}
