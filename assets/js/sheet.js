// The contact sheet: all pictures of one group side by side, each showing how far it has come.

import { el } from "./dom.js";

const GAP_PX = 14;

export class Sheet {
  constructor(root, onChoose) {
    this.root = root;
    this.onChoose = onChoose;
    this.cells = new Map();
    new ResizeObserver(() => this.#arrange()).observe(root);
  }

  clear() {
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
      el("span.sheet-seed", {}, `${job.recipe.seed}`),
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
}
