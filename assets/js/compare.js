// Two pictures of a family on one scrubber: the other one lies over the film, behind a divider that wipes.

import { button, el } from "./dom.js";
import { closeReel, fetchReel } from "./reel.js";

const KEY_SHARE = 0.02;

export class Compare {
  // `film` shows the left picture; the right one follows it at the same noise.
  constructor(film) {
    this.film = film;
    this.canvas = el("canvas.compare-canvas", { role: "img" });
    this.divider = el("div.compare-divider", {
      role: "slider", tabindex: "0", "aria-label": "Divider between the two pictures", "aria-valuemin": "0", "aria-valuemax": "100",
    });
    this.left = el("p.compare-name");
    this.right = el("p.compare-name.compare-right");
    this.root = el("div.compare", { hidden: true }, this.canvas, this.left, this.right, this.divider,
      button("Leave the comparison", "close", () => this.leave(), { bare: true, className: "quiet.compare-leave" }));
    film.screen.append(this.root);
    film.onDraw = () => this.#draw();
    this.#listen();
  }

  get isOpen() {
    return !this.root.hidden;
  }

  // `told` is the timeline on the film. Throws an Error with a sentence when the other one cannot be had.
  async enter(told, other) {
    const asked = (this.asked = other);
    const reel = await fetchReel(other);
    if (this.asked !== asked) return closeReel(reel);
    this.leave();
    this.reel = reel;
    this.partner = partners(told.steps, reel.told.steps);
    this.left.textContent = told.recipe.prompt || "Without a prompt";
    this.canvas.setAttribute("aria-label", reel.told.recipe.prompt || "A picture without a prompt");
    this.root.hidden = false;
    this.#divide(0.5);
    this.#draw();
    this.divider.focus({ preventScroll: true });
  }

  leave() {
    this.asked = null;
    this.root.hidden = true;
    if (this.reel) closeReel(this.reel);
    this.reel = null;
  }

  #draw() {
    if (!this.reel) return;
    const { film, canvas, reel } = this;
    Object.assign(this.root.style, { width: film.canvas.style.width, height: film.canvas.style.height });
    if (canvas.width !== film.canvas.width || canvas.height !== film.canvas.height) {
      canvas.width = film.canvas.width;
      canvas.height = film.canvas.height;
    }
    const { told } = reel;
    const stop = this.partner[film.stop] ?? told.count;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    const name = told.recipe.prompt || "Without a prompt";
    const words = stop === told.count ? `Finished · ${name}` : `Step ${stop + 1} · ${name}`;
    if (this.right.textContent !== words) this.right.textContent = words;
    if (stop === told.count) {
      context.drawImage(reel.picture, 0, 0, canvas.width, canvas.height);
      return;
    }
    const { width, height } = told.tile;
    const x = (stop % told.columns) * width;
    const y = Math.floor(stop / told.columns) * height;
    for (const [sheet, alpha] of [[reel.denoised, 1], [reel.latents, film.noise]]) {
      if (alpha <= 0.003) continue;
      context.globalAlpha = alpha;
      context.drawImage(sheet, x, y, width, height, 0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = 1;
  }

  #divide(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.root.style.setProperty("--share", String(this.share));
    this.divider.setAttribute("aria-valuenow", String(Math.round(100 * this.share)));
  }

  #listen() {
    const { divider } = this;
    const follow = (event) => {
      const { left, width } = this.root.getBoundingClientRect();
      this.#divide((event.clientX - left) / width);
    };
    divider.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      divider.setPointerCapture(event.pointerId);
      this.dragging = true;
    });
    divider.addEventListener("pointermove", (event) => this.dragging && follow(event));
    for (const end of ["pointerup", "pointercancel"]) divider.addEventListener(end, () => { this.dragging = false; });
    // On the divider the arrows move the divider; the film does not hear them.
    divider.addEventListener("keydown", (event) => {
      const to = {
        ArrowLeft: this.share - KEY_SHARE, ArrowRight: this.share + KEY_SHARE, Home: 0, End: 1,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.#divide(to);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || !this.isOpen || this.root.offsetParent === null) return;
      if (document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.leave();
      this.film.strip.focus({ preventScroll: true });
    });
  }
}

// For each step of one run the step of the other that is nearest in noise; where two are (Heun looks twice at
// one noise), the one with the nearer number.
export function partners(steps, others) {
  return steps.map(({ sigma }, index) => {
    const far = (other) => Math.abs(Math.log(others[other].sigma / sigma));
    let best = 0;
    for (let other = 1; other < others.length; other += 1) {
      const nearer = far(other) - far(best);
      if (nearer < -1e-6 || (nearer < 1e-6 && Math.abs(other - index) < Math.abs(best - index))) best = other;
    }
    return best;
  });
}
