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
    this.left = null; // the desk as it was left, until it lies here again or another picture does
    this.before = [];
    this.masks = new Place(MASKS, () => ({ of: this.desk.source?.source, masks: masks() }));
    this.pictures = new Place(BEFORE, () => this.before);
  }

  // The desk as it was left, with its `form`.
  recallDesk() {
    const nothing = { source: null, group: null, region: null };
    const { form = {}, ...left } = { ...nothing, ...JSON.parse(localStorage.getItem(DESK) ?? "{}") };
    this.left = left;
    return { ...left, form };
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

  // Another picture lies on the desk, or none.
  lay(source) {
    this.desk = { source, group: null, region: null };
    this.left = null;
  }

  putDesk(form) {
    const desk = this.left ?? this.desk;
    // The first tab's stage leaves alone what another tab follows, which it knows by this name.
    if (desk.group) localStorage.setItem(FOLLOWED, desk.group);
    else localStorage.removeItem(FOLLOWED);
    localStorage.setItem(DESK, JSON.stringify({ ...desk, form }));
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
