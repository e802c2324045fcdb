// What pointers do on the board: paint, move it, bring it nearer with a wheel or two fingers, and wipe.

export class Pointing {
  constructor(board) {
    this.board = board;
    this.at = null; // where the pointer is on the picture as it has grown, in its pixels
    this.held = false; // with the space bar the board is moved and not painted on
    this.fingers = new Map(); // where each pointer is, by its id: two of them pinch
    const { canvas } = board;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => {
      this.at = null;
      board.draw();
    });
    canvas.addEventListener("wheel", (event) => {
      if (!board.before) return;
      event.preventDefault();
      const { x, y } = onCanvas(event);
      board.zoom(Math.exp(-event.deltaY / 400), x, y);
    }, { passive: false });
  }

  #place(event) {
    const { x, y } = onCanvas(event);
    const { view } = this.board;
    return { x: (x - view.x) / view.scale, y: (y - view.y) / view.scale };
  }

  // The same on the picture itself, where the masks are.
  #spot(event) {
    const { x, y } = this.#place(event);
    return { x: x - this.board.margins[0], y: y - this.board.margins[1] };
  }

  #down(event) {
    const { board } = this;
    if (!board.before) return;
    board.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, event);
    if (this.fingers.size > 1) {
      this.#giveUpStroke();
      this.pinch = this.#grip();
      return;
    }
    if (event.button === 1 || this.held) {
      this.dragging = onCanvas(event);
      return;
    }
    if (board.after) {
      this.wiping = true;
      this.#move(event);
      return;
    }
    if (board.locked) return;
    if (board.tool === "wand") {
      board.coverAlike(this.#spot(event));
      return;
    }
    const erasing = board.tool === "eraser" || event.button === 2 || event.altKey;
    board.masks.begin(this.#spot(event), { size: board.size, erasing });
    board.draw();
  }

  #move(event) {
    const { board } = this;
    this.at = this.#place(event);
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, event);
    if (this.pinch) {
      const { x, y, apart } = this.pinch;
      this.pinch = this.#grip();
      board.move(this.pinch.x - x, this.pinch.y - y);
      board.zoom(this.pinch.apart / apart, this.pinch.x, this.pinch.y);
      return;
    }
    if (this.dragging) {
      const { x, y } = this.dragging;
      this.dragging = onCanvas(event);
      board.move(this.dragging.x - x, this.dragging.y - y);
    }
    if (this.wiping) {
      board.wipe = Math.min(Math.max(this.at.x / board.before.width, 0), 1);
      board.wiped?.(board.wipe);
    }
    if (board.masks?.stroke) for (const one of event.getCoalescedEvents?.() ?? [event]) board.masks.to(this.#spot(one));
    board.draw();
  }

  #up(event) {
    const { board } = this;
    this.fingers.delete(event.pointerId);
    if (this.pinch) {
      if (this.fingers.size < 2) this.pinch = null;
      return;
    }
    this.dragging = this.wiping = null;
    if (!board.masks?.stroke) return;
    board.masks.end();
    board.draw();
    board.changed();
  }

  // What the first finger began to paint was no stroke.
  #giveUpStroke() {
    this.dragging = this.wiping = null;
    if (this.board.masks?.stroke) this.board.masks.giveUp();
  }

  // Where two fingers hold the picture, and how far they are apart, in pixels of the canvas.
  #grip() {
    const [one, other] = [...this.fingers.values()].map(onCanvas);
    return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2, apart: Math.max(1, Math.hypot(one.x - other.x, one.y - other.y)) };
  }
}

function onCanvas(event) {
  const dense = window.devicePixelRatio || 1;
  return { x: event.offsetX * dense, y: event.offsetY * dense };
}
