// The tools under the board, and their keys.

import { button, el, isTyping } from "./dom.js";
import { MaskList } from "./masklist.js";

const TOOLS = [
  ["brush", "Brush", "B"],
  ["eraser", "Eraser", "E"],
  ["wand", "Similar colour", "W"],
];
const STEP_PX = 4;

export class MaskTools {
  constructor(board) {
    this.board = board;
    this.tools = TOOLS.map(([tool, name, key]) =>
      el("button.inpaint-tool", { type: "button", "data-tool": tool, title: `${name} (${key})`, onclick: () => this.take(tool) }, name));
    this.size = el("input.inpaint-size", { type: "range", min: 2, max: 400, step: 1, "aria-label": "Size of the brush" });
    this.size.addEventListener("input", () => {
      if (board.tool === "wand") board.tolerance = Number(this.size.value);
      else board.size = board.chosen = Number(this.size.value);
      board.draw();
    });
    this.list = new MaskList(board);
    const act = (label, title, onclick) => el("button.inpaint-act", { type: "button", title, onclick }, label);
    const sign = (label, icon, title, onclick) => Object.assign(button(label, icon, onclick, { bare: true, className: "inpaint-act" }), { title });
    this.element = el("div.inpaint-masking", { role: "toolbar", "aria-label": "Mask" },
      el("div.inpaint-tools", { role: "group", "aria-label": "Tool" }, ...this.tools),
      this.size,
      sign("Undo", "undo", "Undo (Ctrl+Z)", () => board.undo()),
      sign("Redo", "redo", "Redo (Ctrl+Shift+Z)", () => board.redo()),
      act("Invert", "Cover what is bare, bare what is covered (I)", () => board.invert()),
      act("Grow", `Let the mask grow by ${STEP_PX} pixels`, () => board.grow(STEP_PX)),
      act("Shrink", `Let the mask shrink by ${STEP_PX} pixels`, () => board.grow(-STEP_PX)),
      act("Clear", "Take the whole mask away", () => board.clear()),
      act("Fit", "See the whole picture (0). The wheel brings it nearer, the space bar lets you move it", () => board.fit()),
    );
    document.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("keyup", (event) => {
      if (event.key === " ") board.pointing.held = false;
    });
    this.take("brush");
  }

  take(tool) {
    this.board.tool = tool;
    for (const one of this.tools) one.setAttribute("aria-pressed", String(one.dataset.tool === tool));
    this.show();
    this.board.draw();
  }

  // The size of the brush, or how alike colours are for the wand, as the board has it.
  show() {
    const wand = this.board.tool === "wand";
    this.size.max = wand ? "128" : "400";
    this.size.value = String(wand ? this.board.tolerance : this.board.size);
    this.size.setAttribute("aria-label", wand ? "How alike the colours are" : "Size of the brush");
  }

  #resize(factor) {
    this.board.size = this.board.chosen = Math.min(400, Math.max(2, Math.round(this.board.size * factor)));
    this.show();
    this.board.draw();
  }

  #key(event) {
    const { board } = this;
    if (!this.element.offsetParent || document.querySelector("dialog[open]") || isTyping(event.target)) return;
    const onButton = event.target instanceof Element && event.target.closest("button") !== null;
    const keys = {
      b: () => this.take("brush"), e: () => this.take("eraser"), w: () => this.take("wand"), i: () => board.invert(),
      0: () => board.fit(), "+": () => board.zoom(1.25), "-": () => board.zoom(0.8),
      "[": () => this.#resize(0.8), "]": () => this.#resize(1.25),
      ...(onButton ? {} : { " ": () => (board.pointing.held = true) }), // where it presses the button
    };
    if (event.ctrlKey || event.metaKey) {
      const key = event.key.toLowerCase();
      if (key !== "z" && key !== "y") return;
      event.preventDefault();
      if (key === "y" || event.shiftKey) board.redo();
      else board.undo();
    } else if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  }
}
