// Two pictures on one scrubber, step by step: the other one lies over the film behind a divider that wipes, or stands
// beside it, or only what differs is shown.

import { button, el, write } from "./dom.js";
import { closeReel, fetchReel } from "./reel.js";

const KEY_SHARE = 0.02;
const GAP_PX = 24;
const WAYS = [["wipe", "Wipe"], ["side", "Side by side"], ["difference", "Difference"]];

export class Compare {
  // `film` shows the left picture; the right one follows it at the same noise. `place` is an empty element for the ways
  // to compare, `onTurn(on)` hears that a comparison begins or is over.
  constructor(film, { place, onTurn }) {
    Object.assign(this, { film, onTurn });
    this.way = "wipe";
    this.canvas = el("canvas.compare-canvas", { role: "img" });
    this.divider = el("div.compare-divider", {
      role: "slider", tabindex: "0", "aria-label": "Divider between the two pictures", "aria-valuemin": "0", "aria-valuemax": "100",
    });
    this.left = el("p.compare-name");
    this.right = el("p.compare-name.compare-right");
    this.ways = WAYS.map(([way, name]) => el("button.heat-choice", { type: "button", "data-way": way, onclick: () => this.show(way) }, name));
    this.root = el("div.compare", { hidden: true }, this.canvas, this.left, this.right, this.divider,
      button("Leave the comparison", "close", () => this.leave(), { bare: true, className: "quiet.compare-leave" }));
    film.screen.append(this.root);
    place.replaceChildren(el("div.heat-choices", { role: "group", "aria-label": "How the two are compared" }, ...this.ways));
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
    [this.name, this.otherName] = names(told.recipe, reel.told.recipe);
    this.onTurn(true);
    this.canvas.setAttribute("aria-label", reel.told.recipe.prompt || "A picture without a prompt");
    this.root.hidden = false;
    this.#divide(0.5);
    this.show(this.way);
    this.divider.focus({ preventScroll: true });
  }

  leave() {
    this.asked = null;
    const wasOpen = this.isOpen;
    this.root.hidden = true;
    this.#stand(false);
    if (wasOpen) this.onTurn(false);
    if (this.reel) closeReel(this.reel);
    this.reel = null;
  }

  // As a "wipe", "side" by side, or the "difference".
  show(way) {
    this.way = way;
    this.root.dataset.way = way;
    for (const choice of this.ways) choice.setAttribute("aria-pressed", String(choice.dataset.way === way));
    this.#stand(way === "side");
    this.#draw();
  }

  #stand(beside) {
    this.film.screen.classList.toggle("film-beside", beside);
    this.film.beside = beside ? GAP_PX : 0;
  }

  #draw() {
    if (!this.reel) return;
    const { film, canvas, reel } = this;
    this.root.style.setProperty("--apart", `${(film.screen.clientWidth + GAP_PX) / 2}px`);
    Object.assign(this.root.style, { width: film.canvas.style.width, height: film.canvas.style.height });
    if (canvas.width !== film.canvas.width || canvas.height !== film.canvas.height) {
      canvas.width = film.canvas.width;
      canvas.height = film.canvas.height;
    }
    const { told } = reel;
    const stop = this.partner[film.stop] ?? told.count;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = film.quality;
    const at = (step, count, name) => (step >= count ? `Finished · ${name}` : `Step ${step + 1} · ${name}`);
    write(this.left, this.way === "difference" ? "What differs, twice as bright" : at(film.stop, film.steps, this.name));
    write(this.right, at(stop, told.count, this.otherName));
    if (stop === told.count) context.drawImage(reel.picture, 0, 0, canvas.width, canvas.height);
    else this.#drawStep(context, stop);
    if (this.way === "difference") this.#subtract(context);
  }

  #drawStep(context, stop) {
    const { film, reel, canvas } = this;
    const { told } = reel;
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

  #subtract(context) {
    const { canvas } = this;
    context.globalCompositeOperation = "difference";
    context.drawImage(this.film.canvas, 0, 0);
    context.globalCompositeOperation = "lighter";
    context.drawImage(canvas, 0, 0);
    context.globalCompositeOperation = "source-over";
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

// How two recipes are called beside each other: by their prompts, or by what else is not the same.
function names(...recipes) {
  const prompts = recipes.map(({ prompt }) => prompt || "Without a prompt");
  if (prompts[0] !== prompts[1]) return prompts;
  const traits = recipes.map((recipe) => [recipe.sampler, `${recipe.num_inference_steps} steps`, `guidance ${recipe.guidance_scale}`,
    `seed ${recipe.seed}`, stylesOf(recipe), recipe.branch?.mask ? "a part only" : "all of it"]);
  const unlike = traits[0].map((trait, index) => trait !== traits[1][index]);
  return unlike.includes(true) ? traits.map((own) => own.filter((_, index) => unlike[index]).join(" · ")) : prompts;
}

function stylesOf({ mix }) {
  return mix ? mix.styles.map(({ name, weight }) => `${name} ${Number(weight)}`).join(", ") : "no style";
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
