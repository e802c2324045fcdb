// The four edges of the picture on the board as handles: pulled outwards, the picture grows there.

import { el } from "./dom.js";

const SIDES = ["left", "top", "right", "bottom"];
const STEP_PX = 8;
const BIG_STEP_PX = 64;

export class Handles {
  // `sizes()` tells the picture's own sides and by how much it grows, in its pixels, and how many pixels of the
  // page one of them takes; `grow(margins, done)` is told of others, `done` when the hand lets go.
  constructor(board, { sizes, grow, most }) {
    Object.assign(this, { board, sizes, grow, most });
    this.words = el("output.inpaint-grown", { hidden: true });
    this.edges = SIDES.map((side, index) => this.#edge(side, index));
    board.canvas.after(...this.edges, this.words);
  }

  #edge(side, index) {
    const edge = el(`div.inpaint-edge`, {
      role: "slider", tabindex: 0, "data-edge": side, "aria-label": `Let the picture grow: ${side} edge`,
      "aria-valuemin": 0, "aria-valuemax": this.most, "aria-orientation": index % 2 ? "vertical" : "horizontal",
      title: `Pull to let the picture grow to the ${side}`,
    }, el("span"));
    edge.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      edge.focus();
      edge.setPointerCapture(event.pointerId);
      const { margins, scale } = this.sizes();
      this.pull = { x: event.clientX, y: event.clientY, margins, scale };
    });
    edge.addEventListener("pointermove", (event) => this.#pulled(event, index));
    edge.addEventListener("pointerup", () => this.#let());
    edge.addEventListener("pointercancel", () => this.#let());
    edge.addEventListener("keydown", (event) => this.#key(event, index));
    edge.addEventListener("blur", () => this.#say(null));
    return edge;
  }

  #pulled(event, index) {
    if (!this.pull) return;
    const { x, y, margins, scale } = this.pull;
    const along = index % 2 ? event.clientY - y : event.clientX - x;
    this.#set(index, margins[index] + (index < 2 ? -along : along) / scale, false);
  }

  #let() {
    if (!this.pull) return;
    this.pull = null;
    this.grow(this.sizes().margins, true);
    this.#say(null);
  }

  #key(event, index) {
    const outwards = ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"];
    const step = event.shiftKey ? BIG_STEP_PX : STEP_PX;
    const now = this.sizes().margins[index];
    const keys = { [outwards[index]]: now + step, [outwards[(index + 2) % 4]]: now - step, PageUp: now + BIG_STEP_PX, PageDown: now - BIG_STEP_PX, Home: 0 };
    if (!(event.key in keys)) return;
    event.preventDefault();
    this.#set(index, keys[event.key], true);
  }

  #set(index, pixels, done) {
    const { margins } = this.sizes();
    const side = Math.min(Math.max(Math.round(pixels / STEP_PX) * STEP_PX, 0), this.most);
    if (side !== margins[index]) this.grow(margins.map((one, other) => (other === index ? side : one)), done);
    this.#say(index);
  }

  // How large the picture becomes, while she pulls.
  #say(index) {
    this.words.hidden = index === null;
    if (index === null) return;
    const { width, height, margins } = this.sizes();
    const [across, down] = [width + margins[0] + margins[2], height + margins[1] + margins[3]];
    this.words.textContent = `${margins[index] ? `+ ${margins[index]}` : "No"} pixels ${index % 2 ? "at the" : "to the"} ${SIDES[index]}: ${across} × ${down}`;
  }

  // Puts the handles where the edges are; those beyond the frame are out of reach.
  place() {
    const { board } = this;
    const shown = board.before !== null && !board.locked;
    if (!shown) return this.edges.forEach((edge) => (edge.hidden = true));
    const dense = window.devicePixelRatio || 1;
    const { x, y, scale } = board.view;
    const [left, top, across, down] = [x, y, board.before.width * scale, board.before.height * scale].map((one) => one / dense);
    const [wide, high] = [board.canvas.width / dense, board.canvas.height / dense];
    const middle = { x: (Math.max(left, 0) + Math.min(left + across, wide)) / 2, y: (Math.max(top, 0) + Math.min(top + down, high)) / 2 };
    const places = [[left, middle.y], [middle.x, top], [left + across, middle.y], [middle.x, top + down]];
    const { margins } = this.sizes();
    this.edges.forEach((edge, index) => {
      const [atX, atY] = places[index];
      edge.hidden = atX < 0 || atY < 0 || atX > wide || atY > high;
      Object.assign(edge.style, { left: `${atX}px`, top: `${atY}px` });
      edge.setAttribute("aria-valuenow", String(margins[index]));
      edge.setAttribute("aria-valuetext", `${margins[index]} pixels`);
    });
    return undefined;
  }
}
