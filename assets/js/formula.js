// The formula behind what is seen, one click away, with the numbers of the very step that is shown.

import { el } from "./dom.js";
import { decidedBy } from "./lineage.js";

const MATH = "http://www.w3.org/1998/Math/MathML";

export class Formula {
  // `place` is an empty <details>; `prediction` says what the model was trained to predict.
  constructor(place, { prediction }) {
    this.place = place;
    this.prediction = prediction;
    this.lines = el("div.formula-lines");
    place.replaceChildren(el("summary", {}, "The formula, with the numbers of this step"), this.lines);
    place.addEventListener("toggle", () => this.#write());
  }

  // `way` is "there" for the forward process and "back" for the model's own; `step` and `next` are steps of a
  // timeline, null for the finished picture; `recipe` is the run's.
  show({ way, step, next, recipe }) {
    this.now = { way, step, next, recipe };
    this.#write();
  }

  #write() {
    if (!this.place.open || !this.now) return;
    const { way, step, next, recipe } = this.now;
    const lines = way === "there" ? forward(step) : step ? reverse(step, next, decidedBy(recipe, step.step), this.prediction) : finished();
    this.lines.replaceChildren(...lines.flatMap(([words, ...formulas]) => [
      el("p", {}, words), ...formulas.map((formula) => math("math", formula, { display: "block" })),
    ]));
  }
}

function forward(step) {
  if (!step) return [["Nothing has been mixed in: this is the picture itself.", row(sub("x", "0"))]];
  const t = whole(step.timestep);
  const { signal, grain, share } = weights(step.sigma);
  return [
    ["So much of the picture, so much grain. Their squares add up to one, so the whole stays as loud as it was.",
      row(sub("x", "t"), op("="), root(bar("t")), sub("x", "0"), op("+"), root(row(num(1), op("−"), bar("t"))), name("ε")),
      row(sub("x", t), op("="), num(signal), sub("x", "0"), op("+"), num(grain), name("ε"))],
    ["ᾱ is the share of picture, out of the model’s own schedule. σ, grain over picture, says the same in one number.",
      row(bar(t), op("="), num(share), op(","), name("σ"), op("="), frac(root(row(num(1), op("−"), bar(t))), root(bar(t))), op("="), num(step.sigma))],
    ["ε is drawn once, from the bell curve, and is the same all the way. As a distribution this is written",
      row(name("q"), op("("), sub("x", "t"), op("|"), sub("x", "0"), op(")"), op("="), name("N"), op("("), root(bar("t")), sub("x", "0"), op(","),
        op("("), num(1), op("−"), bar("t"), op(")"), name("I"), op(")"))],
  ];
}

function reverse(step, next, recipe, prediction) {
  const t = whole(step.timestep);
  const { signal, grain } = weights(step.sigma);
  const output = prediction === "epsilon" ? "ε" : prediction === "sample" ? "x" : "v";
  const guided = recipe.guidance_scale > 1;
  const scale = num(recipe.guidance_scale);
  const lines = [
    [`What is there is so much picture and so much grain, and nobody has seen the picture yet.`,
      row(sub("x", t), op("="), num(signal), sub("x", "0"), op("+"), num(grain), name("ε"))],
  ];
  if (guided) {
    lines.push([`The model answers twice, with the prompt and without it (${output}∅). The difference is where the prompt pulls; it is taken ${short(recipe.guidance_scale)} times.`,
      row(hat(output), op("="), sub(output, "∅"), op("+"), scale, op("("), sub(output, "prompt"), op("−"), sub(output, "∅"), op(")")),
      row(op("‖"), sub(output, "prompt"), op("−"), sub(output, "∅"), op("‖"), op("="), num(step.guidance_norm))]);
  }
  const seen = () => sub(hat("x"), "0");
  lines.push(["Out of that answer comes the picture it sees.", prediction === "epsilon"
    ? row(seen(), op("="), frac(row(sub("x", t), op("−"), num(grain), hat("ε")), num(signal)))
    : prediction === "sample" ? row(seen(), op("="), hat("x"))
      : row(seen(), op("="), num(signal), sub("x", t), op("−"), num(grain), hat("v"))]);
  const after = next ? weights(next.sigma) : { signal: 1, grain: 0 };
  lines.push([next
    ? `Then it is mixed again, with less grain, and the next step begins. This is DDIM’s way; ${recipe.sampler} goes ${recipe.sampler === "DDIM" ? "just it" : "the same way by a path of its own"}.`
    : "This is the last step: no grain is mixed in any more, and what it sees is the picture.",
  row(sub("x", next ? whole(next.timestep) : "0"), op("="), num(after.signal), seen(), ...(after.grain > 0 ? [op("+"), num(after.grain), hat("ε")] : []))]);
  return lines;
}

function finished() {
  return [["No step is left: the decoder turns the last latents into pixels.", row(name("x"), op("="), name("D"), op("("), sub("x", "0"), op(")"))]];
}

function weights(sigma) {
  const share = 1 / (1 + sigma ** 2);
  return { share, signal: Math.sqrt(share), grain: Math.sqrt(1 - share) };
}

function short(value, digits = 3) {
  return Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(digits)));
}

const whole = (timestep) => String(Number(timestep.toFixed(1)));

function math(tag, content, attributes = {}) {
  const node = document.createElementNS(MATH, tag);
  for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
  node.append(...[content].flat());
  return node;
}

const name = (text) => math("mi", text);
const op = (text) => math("mo", text);
const num = (value) => math("mn", short(value, 4));
const row = (...parts) => math("mrow", parts);
const root = (part) => math("msqrt", [part]);
const frac = (above, below) => math("mfrac", [above, below]);
const hat = (letter) => math("mover", [name(letter), op("ˆ")], { accent: "true" });
const below = (text) => (/^\d/.test(text) ? math("mn", text) : text.length > 1 ? math("mtext", text) : name(text));
const sub = (base, index) => math("msub", [typeof base === "string" ? name(base) : base, below(index)]);
const bar = (index) => sub("ᾱ", index);
