// How masks lie over their picture: each in its tint, fading out as far as it is feathered, with a rim around it.

import { beyond, feathered, sheet, tinted } from "./masks.js";
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
    let known = this.soft.get(layer);
    if (known?.edits !== layer.edits || known.feather !== this.feather) {
      known = { edits: layer.edits, feather: this.feather, sheet: known?.sheet ?? sheet(width, height) };
      const alpha = feathered(layer.alpha, width, height, this.feather);
      known.sheet.getContext("2d").putImageData(tinted(alpha, width, height, inkOf(layer)), 0, 0);
      this.soft.set(layer, known);
    }
    if (stroke?.layer === layer) known.sheet.getContext("2d").drawImage(layer.sheet, 0, 0); // drawn anew at its end
    return known.sheet;
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
    const now = JSON.stringify([masks.edits, masks.active, scale]);
    if (this.rim?.masks === masks && this.rim.now === now) return this.rim.sheet;
    const all = sheet(masks.width, masks.height);
    const reach = Math.max(0.75, 1.5 / scale);
    const last = masks.visible.filter((layer) => layer === masks.layer);
    for (const layer of [...masks.visible.filter((one) => one !== masks.layer), ...last]) {
      all.getContext("2d").drawImage(rimOf(layer, reach, layer === masks.layer ? PAPER : null), 0, 0);
    }
    this.rim = { masks, now, sheet: all };
    return all;
  }
}

// What lies within `reach` around a layer, in an ink or in its own tint.
function rimOf(layer, reach, ink) {
  const { width, height } = layer.sheet;
  const rim = sheet(width, height);
  const pen = rim.getContext("2d");
  for (let turn = 0; turn < 8; turn++) pen.drawImage(layer.sheet, reach * Math.cos((turn * Math.PI) / 4), reach * Math.sin((turn * Math.PI) / 4));
  if (ink) {
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = ink;
    pen.fillRect(0, 0, width, height);
  }
  pen.globalCompositeOperation = "destination-out";
  pen.drawImage(layer.sheet, 0, 0);
  return rim;
}
