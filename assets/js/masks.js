// Masks and pictures as numbers: what the board does to them, without a board.

export function sheet(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d", { willReadFrequently: true });
  return canvas;
}

// A picture that has grown to its sides, mirrored at its edges.
export function grown(bitmap, [left, top, right, bottom]) {
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

// Lets a mask grow by so many pixels along rows and columns, or shrink.
export function spread(alpha, width, height, pixels) {
  if (pixels >= 0) return largest(alpha, width, height, pixels);
  const bare = alpha.map((value) => 255 - value);
  return largest(bare, width, height, -pixels).map((value) => 255 - value);
}

// The largest value within `radius` of each, along rows and then along columns; a line's best are kept in a queue.
function largest(alpha, width, height, radius) {
  const places = new Int32Array(Math.max(width, height));
  return acrossBoth(alpha, width, height, (from, to, length) => {
    let head = 0;
    let tail = 0;
    for (let i = 0; i < length + radius; i++) {
      if (i < length) {
        while (tail > head && from[places[tail - 1]] <= from[i]) tail--;
        places[tail++] = i;
      }
      const centre = i - radius;
      if (centre < 0) continue;
      while (places[head] < centre - radius) head++;
      to[centre] = from[places[head]];
    }
  });
}

// The mean within `radius` of each, of what lies on the mask.
function averaged(alpha, width, height, radius) {
  return acrossBoth(alpha, width, height, (from, to, length) => {
    let sum = 0;
    let count = 0;
    for (let i = -radius; i < length; i++) {
      if (i + radius < length) {
        sum += from[i + radius];
        count++;
      }
      if (i > radius) {
        sum -= from[i - radius - 1];
        count--;
      }
      if (i >= 0) to[i] = sum / count;
    }
  });
}

// Does something to every row, then to every column; a line of one value, as most are, stays as it is.
function acrossBoth(alpha, width, height, along) {
  const whole = alpha.slice();
  const column = new Uint8ClampedArray(height);
  const changed = new Uint8ClampedArray(Math.max(width, height));
  for (let y = 0; y < height; y++) {
    const row = whole.subarray(y * width, (y + 1) * width);
    if (isOne(row)) continue;
    along(row, changed, width);
    row.set(changed.subarray(0, width));
  }
  for (let x = 0; x < width; x++) {
    for (let y = 0, at = x; y < height; y++, at += width) column[y] = whole[at];
    if (isOne(column)) continue;
    along(column, changed, height);
    for (let y = 0, at = x; y < height; y++, at += width) whole[at] = changed[y];
  }
  return whole;
}

function isOne(line) {
  for (let i = 1; i < line.length; i++) if (line[i] !== line[0]) return false;
  return true;
}

// A mask that fades out over so many pixels beyond its border, and no further: as the studio feathers it.
export function feathered(alpha, width, height, feather) {
  const box = feather > 0 ? coveredBox(alpha, width, height, 2 * feather) : null; // no mean is cut short that counts
  if (!box) return alpha;
  const [left, top, across, down] = box;
  const part = cut(alpha, width, box);
  const half = (feather + 1) >> 1;
  const faded = averaged(largest(part, across, down, half), across, down, feather - half);
  const soft = alpha.slice();
  for (let y = 0, place = 0; y < down; y++) {
    for (let x = 0, at = (top + y) * width + left; x < across; x++, at++, place++) if (faded[place] > soft[at]) soft[at] = faded[place];
  }
  return soft;
}

// How much of what a picture grows by is painted: nothing of the picture, all of it from `feather` pixels off.
export function beyond(width, height, [left, top, right, bottom], feather) {
  const alpha = new Uint8ClampedArray(width * height);
  for (let y = 0; y < height; y++) {
    const down = Math.max(top - y, y - (height - bottom) + 1, 0);
    for (let x = 0; x < width; x++) {
      const off = Math.max(left - x, x - (width - right) + 1, down);
      if (off > 0) alpha[y * width + x] = (255 * off) / (feather + 1);
    }
  }
  return alpha;
}

// The part of a mask that lies in a box: left, top, width and height.
export function cut(alpha, width, [left, top, across, down]) {
  const part = new Uint8ClampedArray(across * down);
  for (let y = 0; y < down; y++) part.set(alpha.subarray((top + y) * width + left, (top + y) * width + left + across), y * across);
  return part;
}

// A box with so many pixels around it, as far as the sheet reaches.
export function around([left, top, across, down], pixels, width, height) {
  const [x, y] = [Math.max(0, left - pixels), Math.max(0, top - pixels)];
  return [x, y, Math.min(width, left + across + pixels) - x, Math.min(height, top + down + pixels) - y];
}

// The box of what is covered, with so many pixels around it; null where nothing is.
function coveredBox(alpha, width, height, more) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (alpha[y * width + x] === 0) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  return right < 0 ? null : around([left, top, right - left + 1, bottom - top + 1], more, width, height);
}

// Alpha as pixels of one colour, to be put on a sheet.
export function tinted(alpha, width, height, [red, green, blue]) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer); // the lowest byte comes first, wherever browsers run
  const colour = red | (green << 8) | (blue << 16);
  for (let i = 0; i < alpha.length; i++) pixels[i] = colour | (alpha[i] << 24);
  return image;
}

// Covers what lies together with a place and is alike in colour.
export function flood({ data, width, height }, alpha, x, y, tolerance) {
  const start = 4 * (y * width + x);
  const like = (at) => {
    let far = 0;
    for (let channel = 0; channel < 3; channel++) far = Math.max(far, Math.abs(data[4 * at + channel] - data[start + channel]));
    return far <= tolerance;
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
  return alpha;
}
