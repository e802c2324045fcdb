// A region: where something belongs on a picture, as 32 by 32 cells from 0 to 255, and the brush that paints it.

const SIDE = 32; // cells of a region, as pipelines/styles.py has them
const STEP = 1; // cells between two dabs

export function bytesOf(region) {
  return region ? Uint8Array.from(atob(region), (letter) => letter.charCodeAt(0)) : new Uint8Array(SIDE * SIDE);
}

export function textOf(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

// A region in one colour, a pixel a cell, as opaque as it is painted.
export function inked(bytes, colour) {
  const sheet = new OffscreenCanvas(SIDE, SIDE);
  const context = sheet.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  bytes.forEach((amount, cell) => image.data.set([red, green, blue, amount], 4 * cell));
  context.putImageData(image, 0, 0);
  return sheet;
}

// One touch of a round, soft brush on a picture of so many widths a height: `cover(cell, amount)` hears of every cell
// under it.
export function dab({ x, y }, radius, aspect, cover) {
  const [wide, high] = aspect > 1 ? [1, aspect] : [1 / aspect, 1];
  for (let row = 0; row < SIDE; row += 1) {
    for (let column = 0; column < SIDE; column += 1) {
      const far = Math.hypot((column + 0.5 - x) / wide, (row + 0.5 - y) / high) / radius;
      const amount = Math.round(255 * Math.min(1, Math.max(0, (1 - far) * 2)));
      if (amount > 0) cover(row * SIDE + column, amount);
    }
  }
}

// Follows the pointer over a canvas: `begin()` says whether a stroke may begin, `touch(place)` hears of every dab, in
// cells, `draw()` when some are done, `end()` of the end of the stroke.
export function brush(canvas, { begin, touch, draw, end }) {
  let last = null;
  const at = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return { x: ((event.clientX - left) / width) * SIDE, y: ((event.clientY - top) / height) * SIDE };
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !begin()) return;
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    touch(last);
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const to = at(event);
    const far = Math.hypot(to.x - last.x, to.y - last.y);
    for (let gone = STEP; gone <= far; gone += STEP) {
      touch({ x: last.x + ((to.x - last.x) * gone) / far, y: last.y + ((to.y - last.y) * gone) / far });
    }
    if (far >= STEP) last = to;
    draw();
  });
  for (const over of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(over, () => {
      if (!last) return;
      last = null;
      end();
    });
  }
}
