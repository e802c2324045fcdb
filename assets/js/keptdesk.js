// The inpainting desk as it outlives a reload: what is small in localStorage; masks with the way they came, and the
// pictures that were painted on from, in the browser's own database.

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

  // The masks of a picture as they were left, or null.
  async recallMasks({ source }) {
    try {
      this.before = (await take(BEFORE)) ?? [];
      const kept = await take(MASKS);
      return kept?.of === source ? kept.masks : null;
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

  // A picture that was painted on from, with its masks: where "take the last fill back" leads.

  get canTakeBack() {
    return this.before.length > 0;
  }

  push({ source, masks, extend }) {
    const done = masks.done.slice(-MOST_CHANGES);
    this.before = [...this.before, { source, masks: { ...masks, done, undone: [] }, extend }].slice(-MOST_BEFORE);
    this.pictures.put();
  }

  pop() {
    const last = this.before.at(-1);
    this.before = this.before.slice(0, -1);
    this.pictures.put();
    return last;
  }

  forget() {
    this.before = [];
    this.pictures.put();
  }
}
