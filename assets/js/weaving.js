// Two fills brushed into one: the second shows where the brush has been.

export class Weaving {
  // `image(job)` is the picture of a fill, `changed()` hears of another pair on the board.
  constructor(board, { image, changed }) {
    Object.assign(this, { board, image, changed });
    this.under = this.over = null;
  }

  get isOn() {
    return this.under !== null;
  }

  // Another fill to brush in leaves the mask as it is.
  async begin(under, over) {
    const [below, above] = await Promise.all([this.image(under), this.image(over)]);
    Object.assign(this, { under, over });
    this.board.weave(below, above);
    this.changed();
  }

  end() {
    this.board.unweave();
    this.under = this.over = null;
  }
}
