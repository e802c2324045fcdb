// The inpainting desk as it outlives a reload: what is small in localStorage; masks with the way they came, and the
// pictures that lay here before, in the browser's own database.

import { Place, take } from "./shelf.js";

const DESK = "atelier.inpaint";
const FOLLOWED = "atelier.group.inpaint";
const MASKS = "inpaint.masks";
const BEFORE = "inpaint.before";
const MOST_BEFORE = 12;
const MOST_CHANGES = 20; // of the masks of a picture that is no longer on the board

export class KeptDesk {
  // `masks()` are those on the board, as plain values.
  constructor(masks) {
    this.desk = { source: null, group: null, region: null };
    this.before = [];
    this.masks = new Place(MASKS, () => ({ of: this.desk.source?.source, masks: masks() }));
    this.pictures = new Place(BEFORE, () => this.before);
  }

  // The desk as it was left, with its `form`.
  recallDesk() {
    const nothing = { source: null, group: null, region: null, form: {} };
    return { ...nothing, ...JSON.parse(localStorage.getItem(DESK) ?? "{}") };
  }

  // The masks of its picture as they were left, or null.
  async recallMasks(source) {
    try {
      this.before = (await take(BEFORE)) ?? [];
      const kept = await take(MASKS);
      return source && kept?.of === source.source ? kept.masks : null;
    } catch {
      return null; // a browser that keeps nothing begins anew
    }
  }

  putDesk(form) {
    // The first tab's stage leaves alone what another tab follows, which it knows by this name.
    if (this.desk.group) localStorage.setItem(FOLLOWED, this.desk.group);
    else localStorage.removeItem(FOLLOWED);
    localStorage.setItem(DESK, JSON.stringify({ ...this.desk, form }));
  }

  // Whether the browser kept them.
  putMasks() {
    return this.masks.put();
  }

  // The picture that was on the desk before, with its masks: a fill was painted on from (`fill`), or another came.

  get last() {
    return this.before.at(-1);
  }

  push({ masks, ...picture }) {
    const done = masks.done.slice(-MOST_CHANGES);
    this.before = [...this.before, { ...picture, masks: { ...masks, done, undone: [] } }].slice(-MOST_BEFORE);
    this.pictures.put();
  }

  pop() {
    const { last } = this;
    this.before = this.before.slice(0, -1);
    this.pictures.put();
    return last;
  }
}
