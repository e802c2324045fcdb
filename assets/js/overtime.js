// Styles over time: a curve for each style over the steps, drawn by hand on the axis of the film above it. The
// same panel holds the brush that says where a style paints.

import { el } from "./dom.js";
import { hear, tell } from "./desk.js";
import { Where } from "./where.js";

const POINTS = 33;
const SHAPES = [
  ["Always", () => null],
  ["Early", (share) => smooth(1 - (share - 0.25) / 0.5)],
  ["Late", (share) => smooth((share - 0.25) / 0.5)],
  ["Midway", (share) => smooth(1.5 - Math.abs(share - 0.5) * 4)],
];
const smooth = (share) => {
  const t = Math.min(1, Math.max(0, share));
  return t * t * (3 - 2 * t);
};
const round = (value) => Math.round(value * 1000) / 1000;

export function mount({ element }) {
  new OverTime(element.querySelector(".overtime"));
}

class OverTime {
  constructor(root) {
    this.styles = [];
    this.name = el("p.overtime-name");
    this.canvas = el("canvas.overtime-canvas", { role: "img" });
    this.panel = el("div.overtime-panel", {}, this.canvas,
      el("span.overtime-end", { "aria-hidden": "true" }, "noise"), el("span.overtime-end.last", { "aria-hidden": "true" }, "picture"));
    this.shapes = SHAPES.map(([name, shape]) => el("button.overtime-shape", { type: "button", onclick: () => this.#set(shape) }, name));
    this.where = new Where(document.querySelector("#blend-stage .stage-wall"));
    this.turns = [["when", "When"], ["where", "Where"]].map(([turn, name]) => el("button.overtime-turn", {
      type: "button", "data-turn": turn, onclick: () => this.#turn(turn),
    }, name));
    root.replaceChildren(
      el("div.overtime-head", {}, el("div.overtime-turns", { role: "group", "aria-label": "When or where a style paints" }, ...this.turns), this.name,
        el("div.overtime-shapes", { role: "group", "aria-label": "Shape of the curve" }, ...this.shapes)),
      this.panel, this.where.tools);
    this.root = root;
    this.#turn("when");
    hear("follow:blend-stage", () => this.#turn("when"));
    new ResizeObserver(() => this.#draw()).observe(this.panel);
    this.#listen();
    hear("mixed", ({ styles, picked }) => {
      this.styles = styles;
      this.picked = styles.find((style) => style.name === picked) ?? styles[0];
      this.where.show(styles, this.picked);
      this.#draw();
    });
  }

  #turn(turn) {
    this.root.dataset.turn = turn;
    for (const choice of this.turns) choice.setAttribute("aria-pressed", String(choice.dataset.turn === turn));
    this.where.turn(turn === "where");
    this.#draw();
  }

  #set(shape) {
    if (!this.picked) return;
    const curve = Array.from({ length: POINTS }, (_, index) => shape(index / (POINTS - 1)));
    this.picked.curve = curve[0] === null ? null : curve.map(round);
    tell("curve", { name: this.picked.name, curve: this.picked.curve });
    this.#draw();
  }

  #listen() {
    const at = (event) => {
      const { left, top, width, height } = this.panel.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
      const room = 6;
      const value = 1 - (event.clientY - top - room) / (height - 2 * room);
      return { index: Math.round(share * (POINTS - 1)), value: round(Math.min(1, Math.max(0, value))) };
    };
    const put = ({ index, value }) => {
      const from = this.last ?? { index, value };
      const [low, high] = from.index <= index ? [from, { index, value }] : [{ index, value }, from];
      for (let point = low.index; point <= high.index; point += 1) {
        const share = high.index === low.index ? 1 : (point - low.index) / (high.index - low.index);
        this.picked.curve[point] = round(low.value + (high.value - low.value) * share);
      }
      if (low.index === high.index) this.picked.curve[index] = value;
      this.last = { index, value };
      this.#draw();
    };
    this.panel.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.picked) return;
      event.preventDefault();
      this.panel.setPointerCapture(event.pointerId);
      this.drawing = true;
      this.last = null;
      const { curve } = this.picked;
      this.picked.curve = Array.from({ length: POINTS }, (_, index) => round(curve ? along(curve, index / (POINTS - 1)) : 1));
      put(at(event));
    });
    this.panel.addEventListener("pointermove", (event) => this.drawing && put(at(event)));
    for (const end of ["pointerup", "pointercancel"]) {
      this.panel.addEventListener(end, () => {
        if (!this.drawing) return;
        this.drawing = false;
        tell("curve", { name: this.picked.name, curve: this.picked.curve });
      });
    }
  }

  #draw() {
    const { canvas, panel, picked } = this;
    const ratio = devicePixelRatio;
    const [width, height] = [panel.clientWidth, panel.clientHeight];
    this.name.replaceChildren(picked ? el("span", {}, "When ", el("em", { style: `color: ${picked.colour}` }, picked.name), " paints: draw its curve")
      : "Put a style on the palette to draw when it paints.");
    for (const shape of this.shapes) shape.disabled = !picked;
    if (width === 0) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    for (const style of [...this.styles.filter((one) => one !== picked), ...(picked ? [picked] : [])]) {
      this.#stroke(context, style, width, height, style === picked);
    }
    canvas.setAttribute("aria-label", this.styles.map(({ name, curve }) => `${name}: ${inWords(curve)}`).join("; ") || "No style");
  }

  #stroke(context, { curve, colour }, width, height, isPicked) {
    const room = 6;
    const line = new Path2D();
    for (let index = 0; index < POINTS; index += 1) {
      const share = index / (POINTS - 1);
      const y = room + (1 - (curve ? along(curve, share) : 1)) * (height - 2 * room);
      if (index === 0) line.moveTo(0, y);
      else line.lineTo(share * width, y);
    }
    context.strokeStyle = colour;
    context.globalAlpha = isPicked ? 1 : 0.55;
    context.lineWidth = isPicked ? 2.4 : 1.3;
    context.lineJoin = "round";
    context.stroke(line);
    if (!isPicked) return;
    line.lineTo(width, height);
    line.lineTo(0, height);
    context.fillStyle = colour;
    context.globalAlpha = 0.13;
    context.fill(line);
    context.globalAlpha = 1;
  }
}

function along(curve, share) {
  const place = share * (curve.length - 1);
  const before = Math.min(Math.floor(place), curve.length - 2);
  return curve[before] + (curve[before + 1] - curve[before]) * (place - before);
}

function inWords(curve) {
  if (!curve) return "always";
  const third = Math.floor(curve.length / 3);
  const mean = (part) => part.reduce((sum, value) => sum + value, 0) / part.length;
  const [early, late] = [mean(curve.slice(0, third)), mean(curve.slice(-third))];
  if (Math.abs(early - late) < 0.15) return "by its own curve";
  return early > late ? "more at the beginning" : "more towards the end";
}
