// The part of a sheet that something touches, in bands of rows that are each as wide as they need be: a stroke may
// lie askew, and the box around it is then mostly bare.

const BAND_PX = 128;

export class Bands {
  constructor(width, height) {
    Object.assign(this, { width, height, boxes: [] }); // boxes are left, top, width and height, in whole pixels
    this.bands = new Map();
  }

  // What lies between two places, within `reach` around the line.
  addLine(from, to, reach) {
    const [top, bottom] = [Math.min(from.y, to.y) - reach, Math.max(from.y, to.y) + reach];
    const at = (y) => {
      const share = from.y === to.y ? 0 : Math.min(1, Math.max(0, (y - from.y) / (to.y - from.y)));
      return from.x + share * (to.x - from.x);
    };
    const isLevel = Math.abs(from.y - to.y) < 1;
    for (let band = Math.floor(top / BAND_PX); band * BAND_PX < bottom; band++) {
      const [first, last] = [Math.max(top, band * BAND_PX), Math.min(bottom, (band + 1) * BAND_PX)];
      const ends = isLevel ? [from.x, to.x] : [at(first - reach), at(last + reach)];
      this.add(Math.min(...ends) - reach, first, Math.max(...ends) + reach, last);
    }
  }

  add(left, top, right, bottom) {
    const [x, end] = [Math.max(0, Math.floor(left)), Math.min(this.width, Math.ceil(right))];
    const [y, below] = [Math.max(0, Math.floor(top)), Math.min(this.height, Math.ceil(bottom))];
    if (end <= x) return;
    for (let band = Math.floor(y / BAND_PX); band * BAND_PX < below; band++) {
      const [first, last] = [Math.max(y, band * BAND_PX), Math.min(below, (band + 1) * BAND_PX)];
      const known = this.bands.get(band) ?? [x, first, end, last];
      this.bands.set(band, [Math.min(known[0], x), Math.min(known[1], first), Math.max(known[2], end), Math.max(known[3], last)]);
    }
    this.boxes = [...this.bands.values()].map(([one, first, other, last]) => [one, first, other - one, last - first]);
  }

  // The box around all of it; null where nothing is touched.
  get box() {
    if (this.boxes.length === 0) return null;
    const [left, top] = [0, 1].map((side) => Math.min(...this.boxes.map((box) => box[side])));
    const [right, bottom] = [0, 1].map((side) => Math.max(...this.boxes.map((box) => box[side] + box[side + 2])));
    return [left, top, right - left, bottom - top];
  }
}

// Where a change that lies in a box is not zero.
export function bandsOf(change, [left, top, across, down], width, height) {
  const bands = new Bands(width, height);
  for (let y = 0; y < down; y++) {
    const row = change.subarray(y * across, (y + 1) * across);
    let [first, last] = [0, across - 1];
    while (first < across && row[first] === 0) first++;
    if (first === across) continue;
    while (row[last] === 0) last--;
    bands.add(left + first, top + y, left + last + 1, top + y + 1);
  }
  return bands;
}
