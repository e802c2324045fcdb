// The mix of a kept picture: which style pulled how hard at each step, and, touched, where.

import { el } from "./dom.js";
import { INKS } from "./inks.js";
import { decidedBy } from "./lineage.js";

// As pipelines/styles.py calls it.
const STEERING = "steering";
const WAYS = { conditioning: "words blended", slerp: "words turned", prediction: "strokes blended" };

export class Pulls {
  // `root` is empty; `layers` lays the heat of a style over the film.
  constructor(root, layers) {
    this.root = root;
    this.layers = layers;
    this.rows = [];
    layers.onChoice = () => this.#mark();
    new ResizeObserver(() => this.#draw()).observe(root);
  }

  // Shows the mix of a timeline as `GET /timelines/{id}` tells it; nothing for a picture without one.
  show(told) {
    const mix = told?.count ? told.recipe.mix : null;
    this.root.hidden = !mix;
    this.rows = [];
    if (!mix) return;
    const { steps, count } = told;
    this.count = count;
    const isPulled = (name) => steps.some((step) => step.contributions?.[name] !== undefined);
    const pulls = (name) => steps.map((step) => step.contributions?.[name] ?? 0);
    const areKnown = mix.styles.some(({ name }) => isPulled(name));
    this.rows = mix.styles.filter(({ weight }) => weight !== 0).map(({ name }, index) => ({
      name,
      ink: INKS[index % INKS.length],
      isShare: !areKnown,
      values: areKnown ? pulls(name) : sharesOf(name, told.recipe, count),
    }));
    if (isPulled(STEERING)) this.rows.push({ name: STEERING, ink: "var(--paper-dim)", isShare: false, values: pulls(STEERING) });
    for (const row of this.rows) {
      row.highest = Math.max(1e-9, ...this.rows.filter(({ isShare }) => isShare === row.isShare).flatMap(({ values }) => values));
      this.#build(row);
    }
    this.root.replaceChildren(
      el("h3", {}, mix.styles.length ? `The mix, ${WAYS[mix.method]}` : "The mix"),
      ...this.rows.map(({ node }) => node),
      el("p.pulls-words", {}, [wordsOf(this.rows), beside(mix)].filter(Boolean).join(" ")));
    this.#draw();
    this.#mark();
  }

  move(stop) {
    this.stop = stop;
    for (const { values, isShare, number, mark } of this.rows) {
      const value = values[stop];
      number.textContent = value === undefined ? "" : isShare ? `${Math.round(100 * value)} %` : value.toPrecision(2);
      mark.hidden = value === undefined;
      mark.style.left = `${(100 * (stop + 0.5)) / this.count}%`;
    }
  }

  #build(row) {
    const known = !row.isShare;
    row.canvas = el("canvas.pull-line", { role: "img", "aria-label": `${row.name} over ${row.values.length} steps` });
    row.number = el("span.pull-number");
    row.mark = el("i.pull-mark", { "aria-hidden": "true" });
    row.node = el(known ? "button.pull" : "div.pull", { type: known ? "button" : null, style: `--ink: ${row.ink}`,
      title: known ? `See where ${row.name} pulls` : null, onclick: known ? () => this.layers.choose("style", row.name) : null },
    el("span.pull-name", {}, row.name), row.number, el("span.pull-panel", {}, row.canvas, row.mark));
  }

  #mark() {
    const { kind, word } = this.layers.chosen ?? {};
    for (const { node, name } of this.rows) {
      if (node.localName === "button") node.setAttribute("aria-pressed", String(kind === "style" && word === name));
    }
  }

  #draw() {
    for (const { canvas, values, highest } of this.rows) {
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      if (width === 0) return;
      canvas.width = Math.round(width * devicePixelRatio);
      canvas.height = Math.round(height * devicePixelRatio);
      const context = canvas.getContext("2d");
      context.scale(devicePixelRatio, devicePixelRatio);
      const line = new Path2D();
      values.forEach((value, step) => {
        const x = ((step + 0.5) / this.count) * width;
        const y = height - 1 - (value / highest) * (height - 3);
        if (step === 0) line.moveTo(x, y);
        else line.lineTo(x, y);
      });
      const colour = getComputedStyle(canvas).color;
      context.strokeStyle = colour;
      context.lineWidth = 1.6;
      context.lineJoin = "round";
      context.stroke(line);
      line.lineTo(((values.length - 0.5) / this.count) * width, height);
      line.lineTo((0.5 / this.count) * width, height);
      context.globalAlpha = 0.16;
      context.fillStyle = colour;
      context.fill(line);
    }
  }
}

// What the lines are.
function wordsOf(rows) {
  const [shares, pulls] = [true, false].map((isShare) => rows.filter((row) => row.isShare === isShare));
  const parts = [];
  if (shares.length) parts.push("How much of each style is asked for at every step.");
  if (pulls.length === 1) parts.push(`How hard ${pulls[0].name} ${pulls[0].name === STEERING ? "pushes" : "pulls"} at every step: touch it to see where.`);
  else if (pulls.length) parts.push("How hard each pulls at every step. Touch one to see where.");
  return parts.join(" ");
}

// What else had a hand in it, in a sentence.
function beside({ references = [], steer = null, loras = [] }) {
  const parts = [];
  for (const through of new Set(references.map((one) => one.ip_adapter?.name))) {
    const count = references.filter((one) => one.ip_adapter?.name === through).length;
    parts.push(`${count === 1 ? "a picture was" : `${count} pictures were`} followed${through ? ` through ${through}` : ""}`);
  }
  if (steer?.strength) parts.push(`a classifier steered with strength ${steer.strength}`);
  const added = loras.filter(({ weight }) => weight !== 0).map(({ name, weight }) => `${name} (${weight})`);
  if (added.length) parts.push(`${added.join(", ")} ${added.length === 1 ? "was" : "were"} added to the model`);
  return parts.length ? `Beside it, ${parts.join(" and ")}.` : "";
}

// What was asked of a style at each step, as pipelines/style_blending.py shares it; before a branch left, that was
// for the picture it left to say.
function sharesOf(name, recipe, count) {
  return Array.from({ length: count }, (_, step) => {
    const share = step / Math.max(1, count - 1);
    const styles = decidedBy(recipe, step).mix?.styles ?? [];
    const own = styles.find((style) => style.name === name);
    const whole = styles.reduce((sum, style) => sum + Math.max(0, weightAt(style, share)), 0);
    return own && whole ? weightAt(own, share) / whole : 0;
  });
}

function weightAt({ weight, curve }, share) {
  if (!curve) return weight;
  const place = share * (curve.length - 1);
  const before = Math.min(Math.floor(place), curve.length - 2);
  return weight * (curve[before] + (curve[before + 1] - curve[before]) * (place - before));
}
