// Live sketches: while she writes, a few-step picture of what is written so far stands on the stage.
// Nothing of it is kept unless she keeps it; what she paints then has the sketch's seed.

import { button, el, parseJSON } from "./dom.js";
import { hear, say, tell } from "./desk.js";
import { FIELDS, rememberForm } from "./form.js";
import { signed } from "./welcome.js";

const SWITCH = "atelier.live";
const REMEMBERED = "atelier.sketch"; // what is sketched on the stage, for after a reload
const PAUSE_MS = 220; // in her writing, before it is sketched
const TOUCHED_MS = 1500; // a field that changes later than this after her hand was in the form, something else filled
const DRAWS_ONE = "-1";
let live = null;
let early = null; // what she wrote before the switch was on the page

export function mount({ element, server }) {
  live = new Sketching(element, server);
  if (!early || !navigator.userActivation.hasBeenActive) return;
  live.touched = performance.now();
  live.typed(early);
}

// Called by Gradio with the form's values whenever one of them is another one.
export function typed(...values) {
  if (live) live.typed(values);
  else early = values;
  return [];
}

// Called by Gradio when a sampler is chosen: the companion's has a pace of its own.
export function paceOf(paces, own, sampler, steps, guidance) {
  const same = (pace) => pace.num_inference_steps === steps && pace.guidance_scale === guidance;
  const pace = paces[sampler];
  if (pace && (sampler === own || same(paces[own]))) return [pace.num_inference_steps, pace.guidance_scale];
  return [steps, guidance];
}

// The form's values as they are painted: with the seed of the sketch that she saw.
export function asSketched(values) {
  return live?.asSketched(values) ?? values;
}

class Sketching {
  constructor(element, server) {
    this.server = server;
    this.word = element.querySelector(".live-word");
    this.switch = element.querySelector("input");
    this.switch.checked = localStorage.getItem(SWITCH) !== "off";
    this.switch.addEventListener("change", () => this.turn());
    this.seed = null; // the drawn one that her sketches share until she paints
    this.touched = -Infinity;
    for (const name of ["input", "click"]) {
      document.getElementById("palette").addEventListener(name, () => (this.touched = performance.now()), true);
    }
    // Examples are to be looked at as well; settings of a painted picture are known already.
    hear("settings", (values) => {
      if ("image" in values) this.touched = performance.now();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if (this.stage?.offsetParent && this.stage.dataset.sketch && this.stage.dataset.state !== "running") this.hide();
    });
    const kept = localStorage.getItem(REMEMBERED);
    if (kept && this.switch.checked) this.ask(JSON.parse(kept));
  }

  turn() {
    localStorage.setItem(SWITCH, this.switch.checked ? "on" : "off");
    if (!this.switch.checked) this.hide();
    else if (this.values) this.ask(this.#wanted());
  }

  typed(values) {
    this.values = values;
    if (performance.now() - this.touched > TOUCHED_MS) return;
    rememberForm(values);
    this.#rest();
    if (!this.switch.checked) return;
    const pause = setTimeout(async () => {
      await signed();
      if (this.pause === pause) this.ask(this.#wanted());
    }, PAUSE_MS);
    this.pause = pause;
  }

  // What is not sketched yet is not to be any more.
  #rest() {
    clearTimeout(this.pause);
    this.pause = null;
  }

  // What would be painted now; a seed that is drawn is drawn once for all sketches of one picture.
  #wanted() {
    const value = (name) => String(this.values[FIELDS.indexOf(name)] ?? "");
    const wanted = Object.fromEntries(["prompt", "negative_prompt", "width", "height", "seed"].map((name) => [name, value(name)]));
    if (wanted.seed.trim() === DRAWS_ONE && this.seed) wanted.seed = this.seed;
    return wanted;
  }

  ask(wanted) {
    this.#rest();
    this.source?.close();
    this.handed = false;
    this.word.textContent = "";
    if (!wanted.prompt.trim()) return this.hide();
    const source = new EventSource(`/sketch?${new URLSearchParams(wanted)}`);
    this.source = source;
    // One after the other: a picture is decoded before the next news is heard.
    let seen = Promise.resolve();
    source.addEventListener("sketch", (event) => {
      seen = seen.then(() => this.#see(parseJSON(event.data), source));
    });
    source.addEventListener("refused", (event) => {
      const { sentence, field } = JSON.parse(event.data);
      if (field !== "artist") this.word.textContent = sentence;
    });
    source.addEventListener("end", () => source.close());
  }

  async #see({ state, step, steps, image, sentence, recipe }, source) {
    if (this.source !== source) return;
    if (state === "failed") this.word.textContent = sentence;
    if (!image) return;
    const picture = el("img", { src: image, alt: recipe.prompt });
    await picture.decode();
    if (this.source !== source) return;
    this.seed = recipe.seed;
    this.recipe = recipe;
    this.#build();
    this.canvas.style.setProperty("--aspect", String(recipe.width / recipe.height));
    this.canvas.append(picture);
    while (this.canvas.children.length > 2) this.canvas.firstElementChild.remove();
    this.status.textContent = state === "done" ? `Sketch, seed ${recipe.seed}` : `Sketch, step ${step} of ${steps}`;
    // What is being painted stays in sight: the sketch stands beside it, until the next one.
    this.stage.dataset.sketch ||= this.stage.dataset.state === "running" ? "aside" : "whole";
    this.stage.dataset.sketching = state;
    const { prompt, negative_prompt, width, height, seed } = recipe;
    localStorage.setItem(REMEMBERED, JSON.stringify({ prompt, negative_prompt, width, height, seed }));
  }

  // On the first sketch, its place on the stage.
  #build() {
    if (this.stage) return;
    this.stage = document.querySelector("#stage .stage");
    this.canvas = el("div.sketch-canvas", { title: "The sketch of what is written now", onclick: () => this.#enlarge() });
    this.status = el("p.sketch-status", { role: "status" });
    const another = button("Another", "loop", () => this.another());
    another.title = "Sketch it from other noise";
    const keep = button("Keep this sketch", "save", () => this.keep());
    keep.title = "Keep it in the gallery as it is";
    const back = button("Close", "close", () => this.hide(), { className: "quiet.sketch-close" });
    back.append(el("kbd", {}, "Esc"));
    this.stage.querySelector(".stage-wall").append(el("div.stage-sketch", {}, this.canvas));
    this.stage.querySelector(".stage-bar").after(
      el("div.sketch-bar", {}, this.status, el("div.stage-actions", {}, another, keep, back)),
    );
    // The picture that is painted now takes the sketch's place with its first step.
    new MutationObserver(() => {
      if (this.handed && /^(Step|Finished|\d)/.test(this.stage.querySelector(".stage-status").textContent)) this.hide();
    }).observe(this.stage.querySelector(".stage-status"), { childList: true, characterData: true, subtree: true });
  }

  #enlarge() {
    this.stage.dataset.sketch = "whole";
  }

  hide() {
    this.#rest();
    this.source?.close();
    this.handed = false;
    localStorage.removeItem(REMEMBERED);
    if (!this.stage) return;
    delete this.stage.dataset.sketch;
    this.canvas.replaceChildren();
    this.status.textContent = "";
  }

  another() {
    this.seed = null;
    if (!this.values || this.values[FIELDS.indexOf("seed")] === DRAWS_ONE) {
      this.ask({ ...this.#asShown(), seed: DRAWS_ONE });
    } else {
      this.touched = performance.now();
      tell("seed", DRAWS_ONE); // the form draws one from now on, and that is sketched
    }
  }

  #asShown() {
    const { prompt, negative_prompt, width, height, seed } = this.recipe;
    return { prompt, negative_prompt, width, height, seed };
  }

  async keep() {
    const answer = await this.server.keep(this.#asShown());
    if (answer.sentence) return say(answer.sentence);
    this.handed = true;
    tell("follow:stage", { group: answer.group });
  }

  // She paints: what is not sketched yet need not be, and what she saw is what she gets.
  asSketched(values) {
    this.#rest();
    this.source?.close();
    this.handed = true;
    const at = FIELDS.indexOf("seed");
    this.seed = null;
    return this.stage?.dataset.sketch && values[at] === DRAWS_ONE ? values.with(at, this.recipe.seed) : values;
  }
}
