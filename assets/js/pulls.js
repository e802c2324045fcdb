// The mix of a kept picture: which style pulled how hard at each step, and, touched, where.

import { el } from "./dom.js";
import { INKS } from "./inks.js";
import { decidedBy } from "./lineage.js";

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
    const known = steps.some((step) => step.contributions);
    this.rows = mix.styles.map(({ name, weight }, index) => ({
      name,
      weight,
      ink: INKS[index % INKS.length],
      values: known ? steps.map((step) => step.contributions?.[name] ?? 0) : sharesOf(name, told.recipe, count),
    })).filter(({ weight }) => weight !== 0);
    this.highest = Math.max(1e-9, ...this.rows.flatMap(({ values }) => values));
    this.isShare = !known;
    this.count = count;
    for (const row of this.rows) this.#build(row, known);
    this.root.replaceChildren(
      el("h3", {}, `The mix, ${WAYS[mix.method]}`),
      ...this.rows.map(({ node }) => node),
      el("p.pulls-words", {}, known ? "How hard each style pulls at every step. Touch one to see where." : "How much of each style is asked for at every step."));
    this.#draw();
    this.#mark();
  }

  move(stop) {
    this.stop = stop;
    for (const { values, number, mark } of this.rows) {
      const value = values[stop];
      number.textContent = value === undefined ? "" : this.isShare ? `${Math.round(100 * value)} %` : value.toPrecision(2);
      mark.hidden = value === undefined;
      mark.style.left = `${(100 * (stop + 0.5)) / this.count}%`;
    }
  }

  #build(row, known) {
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
    for (const { canvas, values, ink } of this.rows) {
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      if (width === 0) return;
      canvas.width = Math.round(width * devicePixelRatio);
      canvas.height = Math.round(height * devicePixelRatio);
      const context = canvas.getContext("2d");
      context.scale(devicePixelRatio, devicePixelRatio);
      const line = new Path2D();
      values.forEach((value, step) => {
        const x = ((step + 0.5) / this.count) * width;
        const y = height - 1 - (value / this.highest) * (height - 3);
        if (step === 0) line.moveTo(x, y);
        else line.lineTo(x, y);
      });
      context.strokeStyle = ink;
      context.lineWidth = 1.6;
      context.lineJoin = "round";
      context.stroke(line);
      line.lineTo(((values.length - 0.5) / this.count) * width, height);
      line.lineTo((0.5 / this.count) * width, height);
      context.globalAlpha = 0.16;
      context.fillStyle = ink;
      context.fill(line);
    }
  }
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
