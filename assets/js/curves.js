// The curves under the scrubber: the numbers of every step, drawn once; along them only a mark moves.

import { button, el, isTyping } from "./dom.js";

const REMEMBERED = "atelier.curve";
const FOLDED = "atelier.curves-folded";

// Every curve: how it is called, its symbol, what it says, its value at a step, and whether it is drawn by powers.
const CURVES = {
  noise: {
    name: "Noise",
    symbol: "σ",
    words: "How strong the grain is, measured against the picture under it.",
    value: ({ sigma }) => sigma,
    byPowers: true,
  },
  share: {
    name: "Picture share",
    symbol: "ᾱ",
    words: "How much of what is there is picture: 0 is grain alone, 1 is no grain. ᾱ = 1 ⁄ (1 + σ²)",
    value: ({ sigma }) => shareOfPicture(sigma),
  },
  clarity: {
    name: "Clarity",
    symbol: "SNR",
    words: "Signal to noise, ᾱ ⁄ (1 − ᾱ). From 1 on, the picture is louder than the grain.",
    value: ({ sigma }) => 1 / sigma ** 2,
    byPowers: true,
  },
  stride: {
    name: "Step size",
    symbol: "Δ ln σ",
    words: "How large a share of the grain this step takes away.",
    value: ({ sigma }, next) => (next ? Math.log(sigma / next.sigma) : NaN),
  },
  change: {
    name: "Change",
    symbol: "Δ x̂₀",
    words: "How much the picture that the model sees moved since the step before.",
    value: ({ step, change }) => (step === 0 ? NaN : change),
  },
  pull: {
    name: "Prompt’s pull",
    symbol: "‖g‖",
    words: "How hard the prompt pulls the picture its way: the guidance.",
    value: ({ guidance_norm }) => guidance_norm,
  },
};

export function shareOfPicture(sigma) {
  return 1 / (1 + sigma ** 2);
}

export class Curves {
  // `schedule` is the part of the model's scheduler config that makes its betas; `onGo(stop)` hears of a click.
  constructor(root, schedule, onGo) {
    this.root = root;
    this.onGo = onGo;
    this.stop = 0;
    this.trained = alphasOf(schedule);
    this.schedule = schedule;
    this.canvas = el("canvas.curves-canvas", { role: "img" });
    this.mark = el("div.curves-mark", { "aria-hidden": "true" });
    this.veil = el("div.curves-veil", { "aria-hidden": "true" });
    this.top = el("span.curves-top", { "aria-hidden": "true" });
    this.bottom = el("span.curves-bottom", { "aria-hidden": "true" });
    this.words = el("p.curves-words");
    this.flag = el("button.curves-flag", { type: "button", hidden: true, title: "Back to the marked step (M takes the mark away there)",
      onclick: () => this.onGo(this.marked), onpointerdown: (event) => event.stopPropagation() });
    this.panel = el("div.curves-panel", {}, this.canvas, this.veil, this.mark, this.flag, this.top, this.bottom);
    this.values = new Map();
    const names = Object.entries(CURVES).map(([key, curve]) => this.#choice(key, curve));
    if (this.trained) names.push(this.#choice("trained", { name: "Training", symbol: "t" }));
    root.replaceChildren(this.panel, this.words, el("div.curves-names", { role: "group", "aria-label": "Curve" }, ...names));
    const kept = localStorage.getItem(REMEMBERED);
    this.chosen = this.values.has(kept) ? kept : "noise";
    new ResizeObserver(() => this.#draw()).observe(this.panel);
    this.#listen();
    this.#showChoice();
  }

  // Draws the steps of a timeline as `GET /timelines/{id}` tells them; null while there is none.
  show(told) {
    this.steps = told?.steps.length ? told.steps : null;
    this.count = told?.count ?? 0; // more than there are steps while they are still coming
    this.points = null;
    if (!told) this.marked = null;
    this.mark.hidden = this.veil.hidden = !this.steps;
    this.#draw();
  }

  // The mark goes to a stop; nothing is drawn again.
  move(stop) {
    this.stop = stop;
    if (!this.steps || !this.points) return;
    const step = this.steps[stop];
    for (const [key, output] of this.values) output.textContent = this.#valueAt(key, step);
    const point = this.points[stop];
    this.mark.hidden = !point;
    if (point) this.mark.style.transform = `translate(${point.x}px, ${point.y}px)`;
    this.veil.hidden = !step || this.chosen === "trained";
    this.veil.style.transform = `translateX(${this.#stopX(stop)}px)`;
  }

  // One step can be marked, to be found again: with a click, or with M where the scrubber stands.
  #flag(stop) {
    this.marked = stop;
    this.#showFlag();
  }

  #showFlag() {
    const { flag, marked, count, steps } = this;
    flag.hidden = !steps || (marked ?? null) === null;
    if (flag.hidden) return;
    const x = this.#stopX(marked);
    flag.textContent = marked < count ? `Step ${marked + 1}` : "Finished";
    flag.toggleAttribute("data-leftwards", x > this.width - 70);
    flag.style.transform = `translateX(${x}px)`;
  }

  // Folds the curves away from the timeline `root`, to leave the whole wall to the picture, and back (key C).
  button(root) {
    const fold = button("Curves", "curve", () => turn(root.dataset.curves !== "off"), { bare: true });
    fold.title = "Curves (C)";
    const turn = (folded) => {
      root.dataset.curves = folded ? "off" : "on";
      fold.setAttribute("aria-pressed", String(!folded));
      localStorage.setItem(FOLDED, folded ? "yes" : "");
    };
    turn(localStorage.getItem(FOLDED) === "yes");
    document.addEventListener("keydown", (event) => {
      const key = event.key.toLowerCase();
      if (!["c", "m"].includes(key) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (!root.offsetParent || isTyping(event.target) || document.querySelector("dialog[open]")) return;
      if (key === "c") fold.click();
      else if (this.steps) this.#flag(this.marked === this.stop ? null : this.stop);
    });
    return fold;
  }

  #choice(key, { name, symbol }) {
    const value = el("span.curves-value");
    this.values.set(key, value);
    return el("button.curves-name", { type: "button", "data-curve": key, onclick: () => this.#choose(key) },
      el("span", {}, name), el("span.curves-number", {}, el("i", {}, symbol), value));
  }

  #choose(key) {
    this.chosen = key;
    localStorage.setItem(REMEMBERED, key);
    this.#showChoice();
    this.#draw();
  }

  #showChoice() {
    for (const choice of this.root.querySelectorAll("[data-curve]")) {
      choice.setAttribute("aria-pressed", String(choice.dataset.curve === this.chosen));
    }
    this.root.dataset.curve = this.chosen;
    this.words.textContent = this.chosen === "trained" ? trainedWords(this.schedule) : CURVES[this.chosen].words;
  }

  #valueAt(key, step) {
    if (key === "trained") return step ? short(step.timestep) : "0";
    if (key === "noise" && !step) return "0";
    if (key === "share" && !step) return "1";
    return step ? short(this.#value(key, step)) : "–";
  }

  #value(key, step) {
    return CURVES[key].value(step, this.steps[step.step + 1]);
  }

  #stopX(stop) {
    return ((stop + 0.5) / (this.count + 1)) * this.width;
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.panel;
    if (!this.steps) this.#drawNothing();
    if (!this.steps || width === 0) return;
    this.width = width; // kept, because asking for it while scrubbing would lay the page out again
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round(height * devicePixelRatio);
    const context = this.canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    const style = getComputedStyle(this.panel);
    this.ink = { line: style.color, quiet: style.getPropertyValue("--hairline-strong"), faint: style.getPropertyValue("--hairline") };
    if (this.chosen === "trained") this.#drawTrained(context, width, height);
    else this.#drawSteps(context, width, height);
    this.move(this.stop);
    this.#showFlag();
  }

  #drawNothing() {
    this.canvas.width = this.canvas.width; // which clears it
    this.top.textContent = this.bottom.textContent = "";
    for (const output of this.values.values()) output.textContent = "–";
  }

  #drawSteps(context, width, height) {
    const { name, symbol, byPowers } = CURVES[this.chosen];
    const values = this.steps.map((step) => this.#value(this.chosen, step));
    const known = values.filter((value) => Number.isFinite(value) && (!byPowers || value > 0));
    const low = byPowers ? Math.min(...known) : 0;
    const high = this.chosen === "share" ? 1 : Math.max(...known, low + 1e-12);
    const scale = byPowers ? Math.log : (value) => value;
    const place = placer(scale(low), scale(high), height);
    this.points = values.map((value, step) =>
      known.includes(value) ? { x: this.#stopX(step), y: place(scale(value)) } : null);
    strokeCurve(context, this.points.filter(Boolean), height, this.ink);
    const slot = width / (this.count + 1);
    for (const point of slot >= 12 ? this.points : []) if (point) dot(context, point, 1.8, this.ink.line);
    this.top.textContent = known.length > 0 ? short(high) : "";
    this.bottom.textContent = known.length > 0 ? short(low) : "";
    this.canvas.setAttribute("aria-label", `${name} (${symbol}) over ${values.length} steps, between ${short(low)} and ${short(high)}`);
  }

  // The curve the model was trained on, noise at the left as everywhere here; a thread leads from each stop of
  // the scrubber to the timestep where the run used it.
  #drawTrained(context, width, height) {
    const last = this.trained.length - 1;
    const place = placer(0, 1, height);
    const at = (timestep) => ({
      x: (1 - timestep / last) * width,
      y: place(this.trained[Math.round(Math.min(last, Math.max(0, timestep)))]),
    });
    const curve = [];
    for (let timestep = last; timestep >= 0; timestep -= 4) curve.push(at(timestep));
    strokeCurve(context, curve, height, this.ink);
    this.points = this.steps.map((step) => at(step.timestep));
    context.strokeStyle = this.ink.faint;
    context.lineWidth = 1;
    context.beginPath();
    this.points.forEach((point, step) => {
      context.moveTo(this.#stopX(step), 0);
      context.lineTo(point.x, point.y);
    });
    context.stroke();
    for (const point of this.points) dot(context, point, 2.2, this.ink.line);
    this.top.textContent = "ᾱ 1";
    this.bottom.textContent = "0";
    this.canvas.setAttribute("aria-label", trainedWords(this.schedule));
  }

  #listen() {
    const CLICK_PX = 4; // what moves further is a drag
    let begun = 0;
    const follow = (event) => {
      const { left, width } = this.panel.getBoundingClientRect();
      const x = event.clientX - left;
      if (this.chosen !== "trained") {
        this.onGo(Math.min(this.count, Math.max(0, Math.floor((x / width) * (this.count + 1)))));
        return;
      }
      const far = this.points.map((point) => Math.abs(point.x - x));
      this.onGo(far.indexOf(Math.min(...far)));
    };
    this.panel.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.steps) return;
      this.panel.setPointerCapture(event.pointerId);
      this.dragging = true;
      begun = event.clientX;
      follow(event);
    });
    this.panel.addEventListener("pointermove", (event) => this.dragging && follow(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.panel.addEventListener(end, (event) => {
        if (this.dragging && end === "pointerup" && Math.abs(event.clientX - begun) < CLICK_PX) this.#flag(this.stop);
        this.dragging = false;
      });
    }
  }
}

// A value's height in the panel, with room for a dot at both ends.
function placer(low, high, height) {
  const room = 5;
  return (value) => height - room - ((value - low) / (high - low || 1)) * (height - 2 * room);
}

function strokeCurve(context, points, height, ink) {
  if (points.length === 0) return;
  const line = new Path2D();
  points.forEach(({ x, y }, index) => (index === 0 ? line.moveTo(x, y) : line.lineTo(x, y)));
  const area = new Path2D(line);
  area.lineTo(points.at(-1).x, height);
  area.lineTo(points[0].x, height);
  const fill = context.createLinearGradient(0, 0, 0, height);
  fill.addColorStop(0, "rgba(239, 232, 220, 0.13)");
  fill.addColorStop(1, "rgba(239, 232, 220, 0.02)");
  context.fillStyle = fill;
  context.fill(area);
  context.strokeStyle = ink.line;
  context.lineWidth = 1.4;
  context.lineJoin = "round";
  context.stroke(line);
}

function dot(context, { x, y }, radius, ink) {
  context.fillStyle = ink;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

// The running product of 1 - beta over the training timesteps, as diffusers' schedulers make it; null where
// the model's schedule has another name.
function alphasOf(schedule) {
  const { beta_start: start, beta_end: end, beta_schedule: kind, num_train_timesteps: count } = schedule;
  const along = (from, to) => Array.from({ length: count }, (_, t) => from + ((to - from) * t) / (count - 1));
  const cosine = (share) => Math.cos(((share + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
  const betas = {
    linear: () => along(start, end),
    scaled_linear: () => along(Math.sqrt(start), Math.sqrt(end)).map((root) => root ** 2),
    squaredcos_cap_v2: () =>
      Array.from({ length: count }, (_, t) => Math.min(0.999, 1 - cosine((t + 1) / count) / cosine(t / count))),
  }[kind]?.();
  if (!betas) return null;
  let product = 1;
  const alphas = betas.map((beta) => (product *= 1 - beta));
  if (!schedule.rescale_betas_zero_snr) return alphas;
  // Lin et al. 2023, algorithm 1: shifted and stretched so that the last timestep is pure noise.
  const roots = alphas.map(Math.sqrt);
  const [first, final] = [roots[0], roots.at(-1)];
  return roots.map((root) => (((root - final) * first) / (first - final)) ** 2);
}

function trainedWords({ beta_start: start, beta_end: end, num_train_timesteps: count }) {
  return `The noise the model learned with: ᾱ over its ${count} timesteps t, β from ${start} to ${end}. `
    + "The marks are the steps of this run.";
}

function short(value) {
  if (!Number.isFinite(value)) return "–";
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}
