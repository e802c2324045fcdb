// The board: a picture, and a mask painted over it with brush, eraser and wand. All of it happens in the browser.
// The mask is one canvas of the picture's size as shown, vermilion where it covers; its alpha is the mask.

const COVER = "#e0563b";
const VEIL = 0.5;
const UNDO_STEPS = 40;

export class Board {
  constructor(canvas, { changed }) {
    this.canvas = canvas;
    this.changed = changed;
    this.tool = "brush";
    this.size = 36;
    this.tolerance = 24;
    this.picture = null;
    this.margins = [0, 0, 0, 0]; // by how much it grows to the left, top, right and bottom
    this.before = null; // what lies under the mask: the picture, grown
    this.after = null; // a fill, shown instead of it from `wipe` on
    this.wipe = 0;
    this.preview = null;
    this.over = null; // another fill, which shows where the mask covers
    this.past = [];
    this.future = [];
    this.view = { scale: 1, x: 0, y: 0 };
    this.fingers = new Map(); // where each pointer is, by its id: two of them pinch
    this.#listen();
    new ResizeObserver(() => this.fit()).observe(canvas.parentElement);
  }

  get locked() {
    return !this.before || this.after !== null || this.preview !== null;
  }

  open(bitmap, margins = [0, 0, 0, 0]) {
    this.picture = bitmap;
    this.margins = margins;
    this.before = grown(bitmap, margins);
    this.after = this.preview = null;
    this.mask = sheet(this.before.width, this.before.height);
    this.rim = null;
    this.past = [];
    this.future = [];
    this.#edited();
    this.fit();
  }

  // Lets the picture grow, or shrink back; the mask and the ways back stay where they are on it.
  extend(margins) {
    if (this.locked || margins.every((side, index) => side === this.margins[index])) return;
    const { width, height } = this.before;
    const before = grown(this.picture, margins);
    const by = [margins[0] - this.margins[0], margins[1] - this.margins[1]];
    const moved = (alpha) => shifted(alpha, width, height, before.width, before.height, by);
    const alpha = this.#bare(this.#alpha());
    [this.past, this.future] = [this.past, this.future].map((all) => all.map((one) => moved(this.#bare(one))));
    this.margins = margins;
    this.before = before;
    this.mask = sheet(before.width, before.height);
    this.rim = null;
    this.#put(moved(alpha));
    this.fit();
  }

  // Brushes one fill over another, with a mask of its own, until `unweave`.
  weave(under, over) {
    const { before, picture, mask, margins, past, future, wipe } = this;
    const { width, height } = before;
    this.aside ??= { before, picture, mask, margins, past, future, wipe };
    const fitted = (bitmap) => {
      const copy = sheet(width, height);
      copy.getContext("2d").drawImage(bitmap, 0, 0, width, height);
      return copy;
    };
    this.over = fitted(over);
    if (under === this.under) return this.draw();
    this.under = under;
    this.before = this.picture = fitted(under);
    this.margins = [0, 0, 0, 0];
    this.after = this.preview = null;
    this.mask = sheet(width, height);
    [this.past, this.future] = [[], []];
    return this.draw();
  }

  unweave() {
    if (!this.aside) return;
    Object.assign(this, this.aside);
    this.aside = this.over = this.under = null;
    this.#edited();
  }

  // The mask without what covers the margins.
  #bare(alpha) {
    const { width, height } = this.before;
    const [left, top, right, bottom] = this.margins;
    if (!(left || top || right || bottom)) return alpha;
    return alpha.map((value, place) => {
      const [x, y] = [place % width, Math.floor(place / width)];
      return x < left || y < top || x >= width - right || y >= height - bottom ? 0 : value;
    });
  }

  // What the picture grows by is painted, whatever else is.
  #coverMargins() {
    const { width, height } = this.mask;
    const [left, top, right, bottom] = this.margins;
    const pen = this.mask.getContext("2d");
    pen.fillStyle = COVER;
    for (const strip of [[0, 0, left, height], [0, 0, width, top], [width - right, 0, right, height], [0, height - bottom, width, bottom]]) pen.fillRect(...strip);
  }

  close() {
    this.before = this.after = this.preview = null;
    this.draw();
  }

  fit() {
    const frame = this.canvas.parentElement.getBoundingClientRect();
    if (!frame.width || !frame.height) return;
    const dense = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(frame.width * dense);
    this.canvas.height = Math.round(frame.height * dense);
    if (this.before) {
      const margin = 28 * dense;
      const scale = Math.min((this.canvas.width - 2 * margin) / this.before.width, (this.canvas.height - 2 * margin) / this.before.height);
      this.view = {
        scale,
        x: (this.canvas.width - scale * this.before.width) / 2,
        y: (this.canvas.height - scale * this.before.height) / 2,
      };
      // A brush that is of some use on this picture, until she chooses her own.
      this.size = this.chosen ?? Math.max(4, Math.round(Math.min(this.before.width, this.before.height) / 9));
    }
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const { scale, x, y } = this.view;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.before) return;
    const { width, height } = this.before;
    pen.setTransform(scale, 0, 0, scale, x, y);
    pen.imageSmoothingQuality = "high";
    pen.imageSmoothingEnabled = scale < 4;
    pen.drawImage(this.before, 0, 0);
    if (this.after) {
      const at = width * this.wipe;
      pen.save();
      pen.beginPath();
      pen.rect(at, 0, width - at, height);
      pen.clip();
      pen.drawImage(this.after, 0, 0, width, height);
      pen.restore();
      if (this.wipe > 0 && this.wipe < 1) {
        pen.fillStyle = "#efe8dc";
        pen.fillRect(at - 0.75 / scale, 0, 1.5 / scale, height);
      }
      return;
    }
    if (this.preview) {
      const { bitmap, region } = this.preview;
      pen.drawImage(this.#masked(bitmap, region.left * width, region.top * height, region.width * width, region.height * height), 0, 0);
      return;
    }
    if (this.over) pen.drawImage(this.#masked(this.over, 0, 0), 0, 0);
    else {
      pen.globalAlpha = VEIL;
      pen.drawImage(this.mask, 0, 0);
      pen.globalAlpha = 1;
      if (!this.stroke) pen.drawImage(this.#outline(), 0, 0);
    }
    if (this.pointer && this.tool !== "wand") {
      pen.lineWidth = 1.5 / scale;
      pen.strokeStyle = "#efe8dc";
      pen.beginPath();
      pen.arc(this.pointer.x, this.pointer.y, this.size / 2, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  // What of an image the mask covers.
  #masked(image, ...place) {
    const part = sheet(this.mask.width, this.mask.height);
    const pen = part.getContext("2d");
    pen.drawImage(this.mask, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.drawImage(image, ...place);
    return part;
  }

  // The rim of the mask, so that it is seen on a picture of its own colour too; drawn anew when the mask changed.
  #outline() {
    if (this.rim && this.rim.of === this.edits && this.rim.scale === this.view.scale) return this.rim.sheet;
    const { width, height } = this.mask;
    const rim = sheet(width, height);
    const pen = rim.getContext("2d");
    const reach = Math.max(0.75, 1.5 / this.view.scale);
    for (let turn = 0; turn < 8; turn++) pen.drawImage(this.mask, reach * Math.cos((turn * Math.PI) / 4), reach * Math.sin((turn * Math.PI) / 4));
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = "#fff8ef";
    pen.fillRect(0, 0, width, height);
    pen.globalCompositeOperation = "destination-out";
    pen.drawImage(this.mask, 0, 0);
    this.rim = { of: this.edits, scale: this.view.scale, sheet: rim };
    return rim;
  }

  #edited() {
    this.#coverMargins();
    this.edits = (this.edits ?? 0) + 1;
    this.draw();
    this.changed();
  }

  // What can be done to a mask as a whole

  invert() {
    this.#edit((alpha) => alpha.map((value) => 255 - value));
  }

  grow(pixels) {
    const { width, height } = this.mask;
    this.#edit((alpha) => (pixels > 0 ? spread(alpha, width, height, pixels, Math.max) : spread(alpha, width, height, -pixels, Math.min)));
  }

  clear() {
    this.#edit((alpha) => alpha.fill(0));
  }

  undo() {
    if (this.locked || this.past.length === 0) return;
    this.future.push(this.#alpha());
    this.#put(this.past.pop());
  }

  redo() {
    if (this.locked || this.future.length === 0) return;
    this.past.push(this.#alpha());
    this.#put(this.future.pop());
  }

  // Whether nothing of the picture itself is covered.
  get isEmpty() {
    return !this.mask || this.#bare(this.#alpha()).every((value) => value === 0);
  }

  // The mask of the picture itself as a file: white on black, as the studio reads it.
  async file() {
    const copy = sheet(this.picture.width, this.picture.height);
    const pen = copy.getContext("2d");
    pen.drawImage(this.mask, -this.margins[0], -this.margins[1]);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, copy.width, copy.height);
    pen.globalCompositeOperation = "destination-over";
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, copy.width, copy.height);
    return new Promise((resolve) => copy.toBlob(resolve, "image/png"));
  }

  remembered() {
    return this.mask.toDataURL("image/png");
  }

  async recall(url) {
    const image = new Image();
    image.src = url;
    await image.decode();
    this.mask.getContext("2d").drawImage(image, 0, 0, this.mask.width, this.mask.height);
    this.#edited();
  }

  #alpha() {
    const { width, height } = this.mask;
    const { data } = this.mask.getContext("2d").getImageData(0, 0, width, height);
    const alpha = new Uint8ClampedArray(width * height);
    for (let i = 0; i < alpha.length; i++) alpha[i] = data[4 * i + 3];
    return alpha;
  }

  #put(alpha) {
    const { width, height } = this.mask;
    const image = new ImageData(width, height);
    for (let i = 0; i < alpha.length; i++) image.data.set([224, 86, 59, alpha[i]], 4 * i);
    this.mask.getContext("2d").putImageData(image, 0, 0);
    this.#edited();
  }

  #edit(change) {
    if (this.locked) return;
    const alpha = this.#alpha();
    this.#note(alpha);
    this.#put(change(alpha.slice()));
  }

  #note(alpha = this.#alpha()) {
    this.past.push(alpha);
    if (this.past.length > UNDO_STEPS) this.past.shift();
    this.future = [];
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.draw();
    });
    canvas.addEventListener("wheel", (event) => {
      if (!this.before) return;
      event.preventDefault();
      const dense = window.devicePixelRatio || 1;
      this.zoom(Math.exp(-event.deltaY / 400), event.offsetX * dense, event.offsetY * dense);
    }, { passive: false });
  }

  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const scale = Math.min(Math.max(this.view.scale * factor, 0.05), 40);
    const by = scale / this.view.scale;
    this.view = { scale, x: x - by * (x - this.view.x), y: y - by * (y - this.view.y) };
    this.draw();
  }

  #at(event) {
    const dense = window.devicePixelRatio || 1;
    return {
      x: (event.offsetX * dense - this.view.x) / this.view.scale,
      y: (event.offsetY * dense - this.view.y) / this.view.scale,
    };
  }

  #down(event) {
    if (!this.before) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, event);
    if (this.fingers.size > 1) {
      this.#giveUpStroke();
      this.pinch = this.#grip();
      return;
    }
    if (event.button === 1 || this.held) {
      this.dragging = { x: event.clientX, y: event.clientY };
      return;
    }
    if (this.after) {
      this.wiping = true;
      this.#move(event);
      return;
    }
    if (this.locked) return;
    const at = this.#at(event);
    this.#note();
    if (this.tool === "wand") {
      this.#fillAlike(at);
      return;
    }
    this.erasing = this.tool === "eraser" || event.button === 2 || event.altKey;
    this.stroke = at;
    this.#stroke(at);
  }

  #move(event) {
    this.pointer = this.#at(event);
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, event);
    if (this.pinch) {
      const { x, y, apart } = this.pinch;
      this.pinch = this.#grip();
      this.view.x += this.pinch.x - x;
      this.view.y += this.pinch.y - y;
      this.zoom(this.pinch.apart / apart, this.pinch.x, this.pinch.y);
      return;
    }
    if (this.dragging) {
      const dense = window.devicePixelRatio || 1;
      this.view.x += (event.clientX - this.dragging.x) * dense;
      this.view.y += (event.clientY - this.dragging.y) * dense;
      this.dragging = { x: event.clientX, y: event.clientY };
    }
    if (this.wiping) {
      this.wipe = Math.min(Math.max(this.pointer.x / this.before.width, 0), 1);
      this.wiped?.(this.wipe);
    }
    if (this.stroke) for (const one of event.getCoalescedEvents?.() ?? [event]) this.#stroke(this.#at(one));
    this.draw();
  }

  // Where two fingers hold the picture, and how far they are apart, in pixels of the canvas.
  #grip() {
    const dense = window.devicePixelRatio || 1;
    const [one, other] = [...this.fingers.values()].map((event) => ({ x: event.offsetX * dense, y: event.offsetY * dense }));
    return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2, apart: Math.max(1, Math.hypot(one.x - other.x, one.y - other.y)) };
  }

  // What the first finger began to paint was no stroke.
  #giveUpStroke() {
    this.dragging = this.wiping = null;
    if (!this.stroke) return;
    this.stroke = null;
    this.#put(this.past.pop());
  }

  #up(event) {
    this.fingers.delete(event.pointerId);
    if (this.pinch) {
      if (this.fingers.size < 2) this.pinch = null;
      return;
    }
    this.dragging = this.wiping = null;
    if (!this.stroke) return;
    this.stroke = null;
    this.#put(this.#alpha()); // as undo and a reload bring it back, to the bit
  }

  #stroke(to) {
    const pen = this.mask.getContext("2d");
    pen.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
    pen.strokeStyle = COVER;
    pen.lineWidth = this.size;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(this.stroke.x, this.stroke.y);
    pen.lineTo(to.x, to.y);
    pen.stroke();
    pen.globalCompositeOperation = "source-over";
    this.stroke = to;
    this.draw();
  }

  // Covers what lies together and is alike in colour.
  #fillAlike(at) {
    const { width, height } = this.mask;
    const [x, y] = [Math.floor(at.x), Math.floor(at.y)];
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const copy = sheet(width, height).getContext("2d");
    copy.drawImage(this.before, 0, 0);
    const { data } = copy.getImageData(0, 0, width, height);
    const alpha = this.#alpha();
    const start = 4 * (y * width + x);
    const like = (at) => {
      let far = 0;
      for (let channel = 0; channel < 3; channel++) far = Math.max(far, Math.abs(data[4 * at + channel] - data[start + channel]));
      return far <= this.tolerance;
    };
    const seen = new Uint8Array(width * height);
    const waiting = [y * width + x];
    while (waiting.length) {
      const place = waiting.pop();
      if (seen[place] || !like(place)) continue;
      seen[place] = 1;
      alpha[place] = 255;
      const column = place % width;
      if (column > 0) waiting.push(place - 1);
      if (column < width - 1) waiting.push(place + 1);
      if (place >= width) waiting.push(place - width);
      if (place + width < seen.length) waiting.push(place + width);
    }
    this.#put(alpha);
  }
}

function sheet(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d", { willReadFrequently: true });
  return canvas;
}

// A picture that has grown to its sides, mirrored at its edges.
function grown(bitmap, [left, top, right, bottom]) {
  if (!(left || top || right || bottom)) return bitmap;
  const { width, height } = bitmap;
  const whole = sheet(width + left + right, height + top + bottom);
  const pen = whole.getContext("2d");
  for (let row = -Math.ceil(top / height); row <= Math.ceil(bottom / height); row++) {
    for (let column = -Math.ceil(left / width); column <= Math.ceil(right / width); column++) {
      const [flipX, flipY] = [column % 2 ? -1 : 1, row % 2 ? -1 : 1];
      const x = left + (column + (flipX < 0 ? 1 : 0)) * width;
      const y = top + (row + (flipY < 0 ? 1 : 0)) * height;
      pen.setTransform(flipX, 0, 0, flipY, x, y);
      pen.drawImage(bitmap, 0, 0);
    }
  }
  return whole;
}

// A mask on a sheet of another size, moved to the right and down.
function shifted(alpha, width, height, toWidth, toHeight, [right, down]) {
  const moved = new Uint8ClampedArray(toWidth * toHeight);
  for (let y = Math.max(0, -down); y < Math.min(height, toHeight - down); y++) {
    const [from, to] = [Math.max(0, -right), Math.min(width, toWidth - right)];
    moved.set(alpha.subarray(y * width + from, y * width + to), (y + down) * toWidth + from + right);
  }
  return moved;
}

// The largest (or smallest) value within `radius`, along rows and then along columns.
function spread(alpha, width, height, radius, choose) {
  const along = (values, count, length, step, next) => {
    const result = new Uint8ClampedArray(values.length);
    for (let line = 0; line < count; line++) {
      for (let i = 0; i < length; i++) {
        let best = values[line * next + i * step];
        for (let j = Math.max(0, i - radius); j <= Math.min(length - 1, i + radius); j++) best = choose(best, values[line * next + j * step]);
        result[line * next + i * step] = best;
      }
    }
    return result;
  };
  return along(along(alpha, height, width, 1, width), width, height, width, 1);
}
