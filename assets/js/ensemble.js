// Several pictures of one group side by side on one scrubber: every cell shows the film's stop of its own run.

import { button, el } from "./dom.js";
import { fetchReel, rollOf } from "./reel.js";
import { drawRoll } from "./roll.js";

const GAP_PX = 14;
const LABEL_PX = 26;

export class Ensemble {
  // `film` is scrubbed, and is itself the run of one of the cells. `open(id)` shows a cell alone, `onEnter` hears
  // that all are shown.
  constructor(film, { server, open, onEnter }) {
    Object.assign(this, { film, server, open, onEnter });
    this.cells = new Map();
    this.root = el("div.ensemble", { role: "group", "aria-label": "Pictures side by side", hidden: true });
    film.screen.append(this.root);
    const draw = film.onDraw;
    film.onDraw = () => {
      draw?.();
      this.#draw();
    };
    new ResizeObserver(() => this.#arrange()).observe(this.root);
    this.root.addEventListener("wheel", (event) => {
      event.preventDefault();
      film.go(film.stop + Math.sign(event.deltaY || event.deltaX));
    }, { passive: false });
  }

  get isOpen() {
    return !this.root.hidden;
  }

  // The action on the timeline; hidden where there is nothing to stand beside.
  button() {
    this.all = button("All pictures of this group side by side", "grid", () => this.toggle(), { bare: true });
    this.all.hidden = true;
    return this.all;
  }

  // The timeline of `artwork` is on the film: find out who was painted with it.
  async offer(artwork) {
    this.artwork = artwork;
    this.all.hidden = true;
    this.members = [];
    const { members } = await this.server.companions({ artwork });
    if (this.artwork !== artwork) return;
    this.members = members;
    this.all.hidden = members.length < 2;
    if (this.wanted === artwork) this.enter();
  }

  // As soon as the timeline of `artwork` is put on the film, all of its group are wanted.
  want(artwork) {
    this.wanted = artwork;
  }

  // Nothing is on the film that has a group.
  clear() {
    this.leave();
    this.artwork = null;
    this.all.hidden = true;
  }

  toggle() {
    if (this.isOpen) this.leave();
    else this.enter();
  }

  async enter() {
    this.wanted = null;
    this.#show(true);
    this.root.setAttribute("aria-busy", "true");
    for (const member of this.members) this.place(member.id, member.recipe, member.id === this.artwork);
    await Promise.all(this.members.filter(({ id }) => id !== this.artwork).map(async ({ id }) => {
      try {
        this.put(id, await fetchReel(id));
      } catch (error) {
        this.tell(id, error.message);
      }
    }));
    this.root.setAttribute("aria-busy", "false");
  }

  leave() {
    this.#show(false);
    for (const { roll } of this.cells.values()) if (roll !== this.film) closeRoll(roll);
    this.cells.clear();
    this.root.replaceChildren();
  }

  // A cell for a picture; the one that `isOnFilm` shows what the film shows.
  place(id, recipe, isOnFilm) {
    if (this.cells.has(id)) return;
    this.#show(true);
    const canvas = el("canvas");
    const words = el("span.ensemble-words", {}, `Seed ${recipe.seed}`);
    const node = el("button.ensemble-cell", { type: "button", "aria-label": `Show seed ${recipe.seed} alone`,
      "aria-current": isOnFilm ? "true" : null, onclick: () => this.open(id) }, canvas, words);
    const roll = isOnFilm ? this.film : { layers: { denoised: [], latents: [] }, picture: null, steps: 0 };
    this.cells.set(id, { canvas, words, node, roll, recipe });
    this.root.append(node);
    this.#arrange();
  }

  // Steps of a run that is still being painted, as [step, tile].
  grow(id, steps, tiles) {
    const { roll } = this.cells.get(id);
    roll.steps = steps;
    for (const [step, tile] of tiles) {
      roll.layers.denoised[step]?.bitmap.close();
      roll.layers.denoised[step] = tile;
    }
    this.#draw();
  }

  // The whole timeline of a cell.
  put(id, reel) {
    const cell = this.cells.get(id);
    const roll = rollOf(reel);
    if (!cell || cell.roll === this.film) {
      closeRoll(roll);
      return;
    }
    closeRoll(cell.roll);
    cell.roll = roll;
    this.#draw();
  }

  // Something to say of one cell.
  tell(id, sentence) {
    const cell = this.cells.get(id);
    if (cell) cell.words.textContent = sentence;
  }

  #show(on) {
    if (on === this.isOpen) return;
    this.root.hidden = !on;
    this.film.screen.classList.toggle("film-many", on);
    this.all?.setAttribute("aria-pressed", String(on));
    if (on) this.onEnter();
  }

  // As many columns as make the pictures largest.
  #arrange() {
    const { clientWidth: width, clientHeight: height } = this.root;
    const cells = [...this.cells.values()];
    if (width === 0 || cells.length === 0) return;
    const aspect = cells[0].recipe.width / cells[0].recipe.height;
    let best = 0;
    for (let columns = 1; columns <= cells.length; columns += 1) {
      const rows = Math.ceil(cells.length / columns);
      const high = (height + GAP_PX) / rows - GAP_PX - LABEL_PX;
      const wide = Math.floor(Math.min((width + GAP_PX) / columns - GAP_PX, high * aspect));
      if (wide > best) {
        best = wide;
        this.root.style.setProperty("--columns", columns);
      }
    }
    this.root.style.setProperty("--cell", `${best}px`);
    for (const { canvas, recipe } of cells) {
      canvas.width = Math.round(best * devicePixelRatio);
      canvas.height = Math.round((best * recipe.height * devicePixelRatio) / recipe.width);
    }
    this.#draw();
  }

  // Runs of other lengths are shown at the same share of their way.
  #draw() {
    if (!this.isOpen) return;
    const { film } = this;
    for (const { canvas, roll } of this.cells.values()) {
      const position = film.steps ? (film.position * roll.steps) / film.steps : 0;
      drawRoll(canvas.getContext("2d"), roll, position, film.noise, film.quality);
    }
  }
}

function closeRoll({ layers, picture }) {
  for (const tiles of Object.values(layers)) tiles.forEach((tile) => tile?.bitmap.close());
  picture?.bitmap.close();
}

