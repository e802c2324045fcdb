// The contact sheet: all pictures of one group side by side, each showing how far it has come.

import { el } from "./dom.js";

const GAP_PX = 14;
const LABEL_PX = 24;

export class Sheet {
  constructor(root, onChoose) {
    this.root = root;
    this.onChoose = onChoose;
    this.cells = new Map();
    new ResizeObserver(() => this.#arrange()).observe(root);
  }

  // `layout`, for a series, has the place and the label of each picture; without one they fill the sheet.
  clear(layout = null) {
    this.layout = layout;
    this.root.classList.toggle("laid-out", layout !== null);
    this.root.removeAttribute("style");
    for (const cell of this.cells.values()) URL.revokeObjectURL(cell.image.src);
    this.cells.clear();
    this.root.replaceChildren();
  }

  put(job) {
    const cell = this.cells.get(job.id) ?? this.#add(job);
    const { recipe, previews, state } = job;
    cell.node.dataset.state = state;
    cell.node.setAttribute("aria-label", `Picture ${job.index + 1}, seed ${recipe.seed}, ${state}`);
    const finished = state === "done" && job.artwork;
    const newest = finished ? "finished" : Math.max(-1, ...previews.keys());
    if (newest === cell.newest || newest === -1) return;
    cell.newest = newest;
    const old = cell.image.src;
    cell.image.src = finished ? `/artworks/${job.artwork}.png` : URL.createObjectURL(previews.get(newest));
    cell.image.onload = () => URL.revokeObjectURL(old);
  }

  #add(job) {
    const image = el("img", { alt: "" });
    const node = el(
      "button.sheet-cell",
      { type: "button", style: `--aspect: ${job.recipe.width / job.recipe.height}`, onclick: () => this.onChoose(job.id) },
      image,
      el("span.sheet-seed", {}, this.layout?.[job.index]?.label ?? `${job.recipe.seed}`),
    );
    const cell = { node, image, index: job.index, newest: -1 };
    this.cells.set(job.id, cell);
    const after = [...this.cells.values()].filter((other) => other.index > job.index).sort((a, b) => a.index - b.index)[0];
    this.root.insertBefore(node, after?.node ?? null);
    this.#arrange();
    return cell;
  }

  // As many columns as make the pictures largest.
  #arrange() {
    const { clientWidth, clientHeight } = this.root;
    const count = this.cells.size;
    if (clientWidth === 0 || count === 0) return;
    const aspect = Number(getComputedStyle(this.root.firstElementChild).getPropertyValue("--aspect"));
    if (this.layout) {
      this.#layOut(clientWidth, clientHeight, aspect);
      return;
    }
    let best = { width: 0 };
    for (let columns = 1; columns <= count; columns += 1) {
      const rows = Math.ceil(count / columns);
      const width = Math.min((clientWidth + GAP_PX) / columns, ((clientHeight + GAP_PX) / rows - GAP_PX) * aspect + GAP_PX);
      const whole = Math.floor(width - GAP_PX);
      if (whole > best.width) best = { width: whole, columns };
    }
    const used = best.columns * (best.width + GAP_PX) - GAP_PX;
    this.root.style.setProperty("--cell", `${best.width}px`);
    this.root.style.gap = `${GAP_PX}px`;
    this.root.style.paddingInline = `${Math.floor((clientWidth - used) / 2)}px`;
  }
  // A series: every picture in its place, as large as all of them can be.
  #layOut(clientWidth, clientHeight, aspect) {
    const columns = 1 + Math.max(...this.layout.map(({ column }) => column));
    const rows = 1 + Math.max(...this.layout.map(({ row }) => row));
    const width = Math.floor(Math.min(
      (clientWidth + GAP_PX) / columns - GAP_PX,
      ((clientHeight + GAP_PX) / rows - GAP_PX - LABEL_PX) * aspect,
    ));
    const height = width / aspect + LABEL_PX;
    const left = (clientWidth - columns * (width + GAP_PX) + GAP_PX) / 2;
    const top = (clientHeight - rows * (height + GAP_PX) + GAP_PX) / 2;
    this.root.style.setProperty("--cell", `${width}px`);
    for (const { node, index } of this.cells.values()) {
      const { row, column } = this.layout[index];
      node.style.left = `${Math.round(left + column * (width + GAP_PX))}px`;
      node.style.top = `${Math.round(top + row * (height + GAP_PX))}px`;
    }
  }
}
