// Bytes of which most are like their neighbour, as those of a mask are, kept small: each run of one value
// as that value and how long it is (seven bits a byte, the lowest first).

export function packed(bytes) {
  let room = new Uint8Array(1024);
  let at = 0;
  // Four at a time, where a run goes on for long: most of a mask is bare.
  const fours = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  for (let start = 0, end = 0; start < bytes.length; start = end) {
    while (end < bytes.length && bytes[end] === bytes[start]) {
      end++;
      if (end & 3) continue;
      const four = bytes[start] * 0x01010101;
      while (fours[end >> 2] === four) end += 4;
    }
    if (at + 6 > room.length) {
      const more = new Uint8Array(2 * room.length);
      more.set(room);
      room = more;
    }
    room[at++] = bytes[start];
    let length = end - start;
    for (; length > 127; length >>>= 7) room[at++] = 128 | (length & 127);
    room[at++] = length;
  }
  return room.slice(0, at);
}

export function unpacked(runs, length) {
  const bytes = new Uint8ClampedArray(length);
  for (let at = 0, start = 0; at < runs.length; ) {
    const value = runs[at++];
    let [count, bits] = [runs[at] & 127, 7];
    for (; runs[at++] & 128; bits += 7) count |= (runs[at] & 127) << bits;
    bytes.fill(value, start, start + count);
    start += count;
  }
  return bytes;
}
