// The masks of the picture on the board: which one the brush works on, which are seen. Of one alone, nothing.

import { button, el } from "./dom.js";
import { say } from "./desk.js";
import { INKS } from "./inks.js";
import { MOST_MASKS } from "./maskstack.js";

export class MaskList {
  constructor(board) {
    this.board = board;
    this.chips = el("div.inpaint-chips", { role: "group", "aria-label": "Masks" });
    this.more = el("button.inpaint-act", { type: "button", title: "A second mask on this picture; what the visible ones cover is filled", onclick: () => this.#do((masks) => masks.add()) }, "Add a mask");
    this.element = el("div.inpaint-masks", {}, this.chips, this.more);
  }

  show() {
    const { masks } = this.board;
    if (!masks) return;
    const now = JSON.stringify([masks.active, masks.layers.map(({ id, name, tint, hidden }) => [id, name, tint, hidden])]);
    if (now === this.now) return;
    this.now = now;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    const many = masks.layers.length > 1;
    this.element.classList.toggle("is-many", many);
    this.more.disabled = masks.layers.length >= MOST_MASKS;
    this.chips.replaceChildren(...(many ? masks.layers.map((layer) => this.#chip(layer)) : []));
    if (focused) this.element.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  }

  #chip(layer) {
    const { id, name, tint, hidden } = layer;
    const worked = id === this.board.masks.active;
    const eye = el("button.inpaint-eye", { type: "button", "aria-pressed": String(!hidden), "aria-label": `See ${name}`, title: hidden ? "Hidden: it is not filled. Show it" : "Hide it: then it is not filled", onclick: () => this.#do((masks) => masks.hide(id, !hidden)) });
    const label = el("button.inpaint-name", { type: "button", "aria-pressed": String(worked), "aria-label": `Work on ${name}`, title: `${name}: ${worked ? "the brush works on this one. Once more: rename it" : "work on this one"}` }, name);
    label.addEventListener("click", () => (worked ? this.#rename(layer, label) : this.#do((masks) => masks.choose(id))));
    const gone = button(`Delete ${name}`, "close", () => {
      this.#do((masks) => masks.remove(id));
      say(`${name} is gone. Ctrl+Z brings it back.`);
    }, { bare: true, className: "inpaint-gone" });
    return el(`div.inpaint-chip${hidden ? ".is-hidden" : ""}${worked ? ".is-worked" : ""}`, { style: `--tint: ${INKS[tint]}` }, eye, label, gone);
  }

  #rename(layer, label) {
    const field = el("input.inpaint-name", { "aria-label": `Name of ${layer.name}`, value: layer.name, maxlength: 40 });
    let over = false;
    const end = (name) => {
      if (over) return;
      over = true;
      this.now = null;
      this.#do((masks) => masks.rename(layer.id, name.trim() || layer.name));
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") end(field.value);
      if (event.key === "Escape") end(layer.name);
      event.stopPropagation();
    });
    field.addEventListener("blur", () => end(field.value));
    label.replaceWith(field);
    field.focus();
    field.select();
  }

  #do(change) {
    if (this.board.locked) return;
    change(this.board.masks);
    this.board.draw();
    this.board.changed();
  }
}
