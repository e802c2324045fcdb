// What can be undone and done again, of bounded size: the oldest goes first. A change may have `runs`, its bytes.

const MOST_CHANGES = 200;
const MOST_BYTES = 8 * 2 ** 20;

export class Past {
  constructor(done = [], undone = []) {
    Object.assign(this, { done, undone });
  }

  note(change) {
    this.done.push(change);
    this.undone = [];
    let bytes = this.done.reduce((sum, one) => sum + sizeOf(one), 0);
    while (this.done.length > MOST_CHANGES || bytes > MOST_BYTES) bytes -= sizeOf(this.done.shift());
  }

  back() {
    return moved(this.done, this.undone);
  }

  forth() {
    return moved(this.undone, this.done);
  }
}

function moved(from, to) {
  const change = from.pop();
  if (change) to.push(change);
  return change;
}

function sizeOf(change) {
  return (change.runs ?? change.layer?.runs)?.length ?? 0;
}
