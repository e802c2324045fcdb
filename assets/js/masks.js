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

// A mask on a sheet of another size, moved to the right and down.
export function shifted(alpha, width, height, toWidth, toHeight, [right, down]) {
  const moved = new Uint8ClampedArray(toWidth * toHeight);
  for (let y = Math.max(0, -down); y < Math.min(height, toHeight - down); y++) {
    const [from, to] = [Math.max(0, -right), Math.min(width, toWidth - right)];
    moved.set(alpha.subarray(y * width + from, y * width + to), (y + down) * toWidth + from + right);
  }
  return moved;
}

// The largest (or smallest) value within `radius`, along rows and then along columns.
export function spread(alpha, width, height, radius, choose) {
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
