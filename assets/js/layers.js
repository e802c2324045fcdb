// Heat over the film: where the picture changed, where the prompt pulled, what a word was read for.
// A sheet is fetched when it is first asked for; from then on scrubbing asks the server for nothing.

import { el, isTyping, parseJSON } from "./dom.js";
import { weightsIn } from "./weighing.js";

const WORD = /[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*/gu;
const STRENGTH = 0.85;
const DIMMED = 0.72;

const HEATS = {
  change: { name: "Change", title: "Where the picture the model sees moved since the step before (H)", now: "Bright where the picture moved since the step before.",
    all: "Bright where the picture moved most on the whole way." },
  guidance: { name: "Prompt’s pull", title: "Where the prompt pulls the picture its way: with it minus without it (H)",
    now: "Bright where the prompt pulls: what the model sees with it, minus without it.", all: "Bright where the prompt pulled most on the whole way." },
  style: { now: (name) => `Bright where ${name} pulls at this step.`, all: (name) => `Bright where ${name} pulled most on the whole way.` },
  attention: { now: (word) => `Bright where the model looks for “${word}” at this step.`, all: (word) => `Bright where the model looked for “${word}” on the whole way.` },
};

export class Layers {
  // `place` is an empty element for the choices, `prompt` one whose words can be chosen.
  constructor({ film, place, prompt }) {
    Object.assign(this, { film, place, prompt });
    this.sheets = new Map();
    this.strength = STRENGTH;
    this.words = el("p.heat-words", { role: "status" });
    this.choices = ["change", "guidance"].map((kind) => el("button.heat-choice", {
      type: "button", "data-heat": kind, title: HEATS[kind].title, "aria-pressed": "false", onclick: () => this.choose(kind),
    }, HEATS[kind].name));
    this.fade = el("input.timeline-fade", { type: "range", min: 0, max: 1, step: 0.01, value: STRENGTH, "aria-label": "Strength of the heat" });
    this.fade.addEventListener("input", () => {
      this.strength = this.fade.valueAsNumber;
      this.#lay();
    });
    place.replaceChildren(this.words, el("div.heat-choices", { role: "group", "aria-label": "Heat over the picture" },
      el("span.heat-over", {}, "Over it"), ...this.choices, el("span.heat-hint", {}, "or a word of the prompt"), this.fade));
    document.addEventListener("keydown", (event) => this.#press(event));
    this.#showChoice();
  }

  // Another timeline is on the film, or none: what was chosen is shown of it too, except a word or a style.
  show(told) {
    for (const sheet of this.sheets.values()) sheet.bitmap.close();
    this.sheets.clear();
    this.film.lay(null);
    this.told = told;
    if (!told) return;
    this.problem = "";
    const kept = this.chosen?.word ? null : this.chosen;
    this.chosen = null;
    this.#showPrompt();
    this.#showChoice();
    if (told && kept) this.choose(kept.kind);
  }

  // The scrubber stands at another stop.
  move(stop) {
    const whole = stop >= (this.told?.count ?? 0);
    if (whole === this.whole) return;
    this.whole = whole;
    this.#tell();
  }

  // Lays a heat over the film; chosen once more, it is taken away.
  async choose(kind, word = "") {
    if (!this.told?.artwork || this.resting) return;
    const again = this.chosen?.kind === kind && this.chosen.word === word;
    this.chosen = again ? null : { kind, word };
    this.problem = "";
    if (this.chosen) this.before = this.chosen;
    this.#showChoice();
    this.#lay();
    if (this.chosen) await this.#fetch(this.told, this.chosen);
  }

  async #fetch(told, { kind, word }) {
    const key = `${kind} ${word}`;
    if (this.sheets.has(key)) return;
    const address = `/timelines/${told.artwork}/heat/${kind}.png?word=${encodeURIComponent(word)}`;
    this.waiting = key;
    this.#tell();
    try {
      const answer = await fetch(address);
      if (!answer.ok) throw new Error(parseJSON(await answer.text()).sentence);
      const sheet = await glowing(await createImageBitmap(await answer.blob()), told);
      if (this.told !== told) return sheet.bitmap.close();
      this.sheets.set(key, sheet);
    } catch (error) {
      if (this.told === told && this.#key === key) this.problem = error.message || "This could not be drawn.";
    }
    if (this.waiting === key) this.waiting = null;
    this.#lay();
    this.#tell();
  }

  get #key() {
    return this.chosen ? `${this.chosen.kind} ${this.chosen.word}` : "";
  }

  // While two pictures are compared no heat lies over them.
  rest(resting) {
    this.resting = resting;
    this.#lay();
  }

  #lay() {
    const sheet = this.resting ? null : this.sheets.get(this.#key);
    this.film.lay(sheet && this.strength > 0 ? { ...sheet, strength: this.strength } : null);
  }

  #showChoice() {
    for (const choice of this.choices) choice.setAttribute("aria-pressed", String(choice.dataset.heat === this.chosen?.kind));
    for (const word of this.prompt.querySelectorAll(".word")) {
      const same = this.chosen?.kind === "attention" && word.textContent.toLowerCase() === this.chosen.word.toLowerCase();
      word.setAttribute("aria-pressed", String(same));
    }
    this.fade.disabled = !this.chosen;
    this.onChoice?.();
    this.#tell();
  }

  #tell() {
    const { kind, word } = this.chosen ?? {};
    const say = kind ? HEATS[kind][this.whole ? "all" : "now"] : "";
    const words = typeof say === "function" ? say(word) : say;
    const wait = kind === "attention" ? "The model is asked again what it looked at…" : "";
    this.words.textContent = this.problem || (this.waiting && this.waiting === this.#key ? wait : words);
    this.words.classList.toggle("heat-problem", this.problem !== "");
  }

  // The prompt, every word of which can be asked about.
  #showPrompt() {
    if (!this.told) return;
    const text = this.told.recipe.prompt;
    const parts = [];
    let end = 0;
    const weights = weightsIn(text);
    for (const match of text.matchAll(WORD)) {
      if (weights.some(([from, to]) => from <= match.index && match.index < to)) continue;
      parts.push(text.slice(end, match.index), this.#word(match[0]));
      end = match.index + match[0].length;
    }
    this.prompt.replaceChildren(...(text ? [...parts, text.slice(end)] : ["Without a prompt"]));
  }

  #word(text) {
    const choose = () => this.choose("attention", text);
    const word = el("span.word", { role: "button", tabindex: "0", "aria-pressed": "false", title: `See where the model looks for “${text}”`, onclick: choose }, text);
    word.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      choose();
    });
    return word;
  }

  #press(event) {
    if (event.key.toLowerCase() !== "h" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.place.offsetParent === null || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const { kind, word } = this.chosen ?? this.before ?? { kind: "change", word: "" };
    this.choose(kind, word);
  }
}

// From grey to fire: what is bright glows, what is dark lets the picture through, dimmed.
async function glowing(grey, told) {
  const canvas = new OffscreenCanvas(grey.width, grey.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(grey, 0, 0);
  grey.close();
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = image;
  for (let place = 0; place < data.length; place += 4) {
    data.set(FIRE[data[place]], place);
  }
  const { columns } = told;
  const rows = Math.ceil((told.count + 1) / columns);
  return {
    bitmap: await createImageBitmap(image),
    columns,
    width: canvas.width / columns,
    height: canvas.height / rows,
  };
}

const STOPS = [[0, 0, 0, 0], [0.25, 38, 9, 14], [0.5, 138, 32, 24], [0.75, 232, 112, 44], [0.92, 255, 214, 120], [1, 255, 246, 214]];
const FIRE = Array.from({ length: 256 }, (_, value) => {
  const share = value / 255;
  const after = STOPS.findIndex(([at]) => at >= share);
  if (after <= 0) return [0, 0, 0, Math.round(255 * DIMMED)];
  const [[from, ...low], [to, ...high]] = [STOPS[after - 1], STOPS[after]];
  const colour = low.map((channel, index) => channel + ((high[index] - channel) * (share - from)) / (to - from));
  // As much of the picture is covered as the dimming asks for, or the glow needs to be as bright as it is.
  const alpha = Math.max(255 * DIMMED, ...colour);
  return [...colour.map((channel) => Math.round((255 * channel) / alpha)), Math.round(alpha)];
});
