// Branching: from a step of a painted picture, another one is painted; here it is asked for and watched.

import { blobOf, button, el, isTyping, parseJSON } from "./dom.js";
import { say, tell } from "./desk.js";
import { wholeTile } from "./film.js";
import { Mix } from "./mix.js";
import { Only } from "./only.js";

const NO_MIX = { method: "conditioning", styles: [] };

export class Branching {
  // `timeline` is the root element, `told` has the samplers and the palette, `open(artwork, stop)` shows a timeline at
  // a stop, `onBegin` hears that a branch is thought of.
  constructor({ timeline, film, server, told, open, onBegin }) {
    Object.assign(this, { timeline, film, server, samplers: told.samplers, open, onBegin });
    this.panel = timeline.querySelector(".timeline-branch");
    this.mix = new Mix(told, () => this.#mixed(), { alone: true });
    this.only = new Only(film, () => this.moved());
    this.#build();
    document.addEventListener("keydown", (event) => this.#press(event));
  }

  // The action on the timeline.
  button() {
    const action = button("Branch from here", "branch", () => this.begin(), { className: "quiet.branch-begin" });
    action.append(el("kbd", {}, "B"));
    action.title = "Paint another picture from this step on";
    return action;
  }

  // Another timeline is on the easel: `told` as `GET /timelines/{id}` tells it.
  shown(told) {
    if (this.source) say("What was being painted goes on, and will be in the gallery.");
    this.#unfollow();
    this.told = told;
    this.close();
  }

  get isPainting() {
    return Boolean(this.source);
  }

  get isOpen() {
    return !this.panel.hidden;
  }

  begin() {
    if (!this.told || this.isOpen) return;
    this.onBegin();
    const { recipe } = this.told;
    const own = recipe.sampler;
    const samplers = this.samplers.includes(own) ? this.samplers : [own, ...this.samplers];
    this.fields.sampler.replaceChildren(...samplers.map((name) => el("option", { value: name }, name)));
    for (const [name, field] of Object.entries(this.fields)) field.value = String(recipe[name]);
    this.mix.load(recipe.mix ?? NO_MIX);
    this.styles.open = Boolean(recipe.mix);
    this.only.load(null);
    this.#complain({});
    this.panel.hidden = false;
    this.timeline.dataset.branching = "";
    this.moved();
    this.fields.prompt.focus({ preventScroll: true });
    this.panel.scrollIntoView({ block: "nearest" });
  }

  close() {
    this.panel.hidden = true;
    this.only.rest(true);
    delete this.timeline.dataset.branching;
  }

  // The scrubber stands at another stop: the sentence says what would be kept from there.
  moved() {
    if (!this.told || this.panel.hidden || this.source) return;
    this.step = Math.min(this.film.stop, this.told.count - 1);
    this.promise.textContent = promiseOf(this.step, this.told.count, { changed: this.#isChanged, inPart: this.only.isOn });
  }

  get #isChanged() {
    const { recipe } = this.told;
    return this.#isRemixed || Object.entries(this.fields).some(([name, field]) => field.value.trim() !== String(recipe[name]));
  }

  get #isRemixed() {
    return JSON.stringify(this.mix.told) !== JSON.stringify(this.mix.alike(this.told.recipe.mix ?? NO_MIX));
  }

  // What styles there are is said on the fold they lie in.
  #mixed() {
    if (!this.styles) return;
    const { styles } = this.mix;
    const names = [...styles, ...this.mix.loras.told].map(({ name }) => name);
    this.styles.toggleAttribute("data-many", styles.length > 1);
    this.styles.toggleAttribute("data-any", styles.length > 0);
    this.stylesNow.textContent = names.length ? names.join(", ") : "none";
    this.moved();
  }

  #build() {
    const field = (name, label, input) => {
      input.id = `branch-${name}`;
      input.name = name;
      return el("div.branch-field", { "data-field": name }, el("label", { for: input.id }, label), input);
    };
    this.fields = {
      prompt: el("textarea", { rows: 4 }),
      negative_prompt: el("textarea", { rows: 1, placeholder: "What to keep away from" }),
      guidance_scale: el("input", { inputmode: "decimal", autocomplete: "off" }),
      sampler: el("select"),
      seed: el("input", { inputmode: "numeric", autocomplete: "off" }),
    };
    const { prompt, negative_prompt, guidance_scale, sampler, seed } = this.fields;
    const draw = el("button.branch-draw", { type: "button", onclick: () => {
      seed.value = "-1";
      this.moved();
    } }, "Draw one");
    const seedField = field("seed", "Seed of the noise to come", seed);
    seedField.append(draw);
    this.stylesNow = el("span.branch-styles-now");
    this.styles = el("details.branch-styles", {}, el("summary", {}, "Styles ", this.stylesNow), this.mix.root, this.mix.palette, this.mix.methods);
    this.promise = el("p.branch-promise", { "aria-live": "polite" });
    this.sentence = el("p.complaint", { role: "alert", id: "branch-complaint" });
    this.go = el("button.accent.branch-paint", { type: "submit" }, "Paint branch");
    const back = button("Close", "close", () => this.close());
    back.append(el("kbd", {}, "Esc"));
    this.progress = el("progress", { max: 1, value: 0, "aria-label": "Progress" });
    this.status = el("p.branch-status", { role: "status" });
    const stop = button("Cancel", "close", () => this.#cancel());
    stop.append(el("kbd", {}, "Esc"));
    this.panel.replaceChildren(
      el("h2", {}, "Branch"),
      this.promise,
      el("fieldset.branch-fields", {},
        field("prompt", "Prompt", prompt),
        field("negative_prompt", "Negative prompt", negative_prompt),
        this.styles,
        el("div.branch-row", {}, field("sampler", "Sampler", sampler), field("guidance_scale", "Guidance", guidance_scale)),
        seedField,
        this.only.root,
        this.sentence,
        el("div.branch-actions", {}, this.go, back)),
      el("div.branch-watch", {}, this.progress, this.status, stop),
    );
    this.panel.addEventListener("submit", (event) => {
      event.preventDefault();
      this.paint();
    });
    this.panel.addEventListener("input", () => this.moved());
    this.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.paint();
    });
  }

  #press(event) {
    if (this.timeline.offsetParent === null || document.querySelector("dialog[open]") || event.defaultPrevented) return;
    if (event.key === "Escape" && this.isOpen) {
      event.preventDefault();
      if (this.source) this.#cancel();
      else this.close();
      this.timeline.querySelector(".timeline-strip").focus({ preventScroll: true });
    } else if (event.key.toLowerCase() === "b" && !event.ctrlKey && !event.metaKey && !event.altKey && !isTyping(event.target)) {
      if (this.isOpen) return;
      event.preventDefault();
      this.begin();
    }
  }

  #complain({ sentence = "", field = "" }) {
    this.sentence.textContent = sentence;
    for (const [name, input] of Object.entries(this.fields)) {
      const wrong = sentence !== "" && name === field;
      for (const [attribute, value] of [["aria-invalid", "true"], ["aria-describedby", this.sentence.id]]) {
        if (wrong) input.setAttribute(attribute, value);
        else input.removeAttribute(attribute);
      }
    }
    const wrong = this.fields[field];
    if (!sentence) return;
    if (field === "mix") this.styles.open = true;
    // The sentence stands where she is looking: under its field, or above the button.
    const place = field === "mix" ? this.styles : wrong?.closest(".branch-row") ?? wrong?.closest(".branch-field") ?? this.only.root;
    place.after(this.sentence);
    this.sentence.scrollIntoView({ block: "nearest" });
    wrong?.focus({ preventScroll: true });
  }

  async paint() {
    if (this.source || this.go.disabled) return;
    const asked = Object.fromEntries(Object.entries(this.fields).map(([name, field]) => [name, field.value]));
    if (this.#isRemixed) asked.mix = this.mix.isEmpty ? null : this.mix.told;
    if (this.only.isOn) asked.mask = this.only.told;
    this.go.disabled = true;
    const answer = await this.server.branch({ artwork: this.told.artwork, step: this.step, ...asked });
    this.go.disabled = false;
    this.#complain(answer);
    if (answer.field === "artist") tell("who", null);
    if (answer.group) this.#follow(answer.group);
  }

  async #follow(group) {
    const { artwork: parent } = this.told;
    this.group = group;
    this.job = null;
    const source = new EventSource(`/jobs/${encodeURIComponent(group)}/stream`);
    this.source = source;
    this.progress.value = 0;
    this.status.textContent = "Waiting for the brush…";
    this.timeline.dataset.painting = "";
    this.only.rest(true);
    this.film.screen.scrollIntoView({ block: "nearest" });
    this.timeline.querySelector(".timeline-strip").focus({ preventScroll: true });
    // One after the other: a preview is decoded before the next news is heard.
    let heard = this.#keepSteps();
    source.addEventListener("job", (event) => {
      heard = heard.then(() => this.#hear(parseJSON(event.data), source, parent));
    });
    source.addEventListener("end", () => {
      source.close();
      heard = heard.then(() => this.source === source
        && this.#giveUp(parent, "The branch is painted and in the gallery, but its timeline could not be drawn."));
    });
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) this.status.textContent = "The studio does not answer; trying again…";
      else if (this.source === source) this.#giveUp(parent, "This branch is not followed any more; look for it in the gallery.");
    };
  }

  // The steps that stay are kept on the film while the others are painted anew behind them.
  async #keepSteps() {
    const { film, step, told } = this;
    const kept = [];
    for (const layer of ["denoised", "latents"]) {
      for (const [number, tile] of film.layers[layer].slice(0, step).entries()) {
        const { bitmap, x, y, width, height } = tile;
        kept.push(createImageBitmap(bitmap, x, y, width, height).then((copy) => [layer, number, copy]));
      }
    }
    const copies = await Promise.all(kept);
    if (!this.source) return;
    const { noise } = film;
    film.clear();
    film.noise = noise;
    film.expect(told.count, told.recipe.width, told.recipe.height);
    for (const [layer, number, copy] of copies) film.setTile(layer, number, wholeTile(copy));
  }

  async #hear(news, source, parent) {
    if (this.source !== source) return;
    const { film } = this;
    this.status.textContent = wordsFor(news, this.step);
    this.progress.value = news.steps ? Math.max(0, news.step - this.step) / Math.max(1, news.steps - this.step) : 0;
    if (news.steps) film.expect(news.steps, news.recipe.width, news.recipe.height);
    for (const [number, url] of news.previews) {
      if (number < this.step) continue;
      const bitmap = await createImageBitmap(blobOf(url));
      if (this.source !== source) return bitmap.close();
      film.setTile("denoised", number, wholeTile(bitmap));
    }
    if (news.state === "failed") await this.#giveUp(parent, news.sentence || "This branch could not be painted.");
    else if (news.state === "cancelled") await this.#giveUp(parent, "");
    else if (news.timeline_ready) {
      this.#unfollow();
      tell("painted", news);
      await this.open(news.artwork, this.step);
    }
  }

  // Back to the picture it would have left, with everything that was typed.
  async #giveUp(parent, sentence) {
    const typed = Object.entries(this.fields).map(([name, field]) => [name, field.value]);
    const [mix, mask] = [this.mix.told, this.only.told];
    const { step } = this;
    this.#unfollow();
    await this.open(parent, step);
    this.begin();
    for (const [name, value] of typed) this.fields[name].value = value;
    this.mix.load(mix);
    this.only.load(mask);
    this.moved();
    this.#complain({ sentence });
  }

  #unfollow() {
    this.source?.close();
    this.source = null;
    delete this.timeline.dataset.painting;
  }

  async #cancel() {
    const answer = await this.server.cancel({ group: this.group });
    if (answer.sentence) say(answer.sentence);
  }
}

function promiseOf(step, count, { changed, inPart }) {
  const rest = count - step;
  const anew = rest === 1 ? "1 step is painted anew" : `${rest} steps are painted anew`;
  const kept = step === 0 ? "The first noise stays as it is" : step === 1 ? "Step 1 stays as it is" : `Steps 1 to ${step} stay as they are`;
  const same = changed ? "" : " Nothing is changed yet: the same picture would come again.";
  return `${kept}; ${anew}${inPart ? ", where you paint" : ""}.${same}`;
}

function wordsFor(job, kept) {
  if (job.state === "queued") {
    return job.ahead > 0 ? `In line: ${job.ahead} ${job.ahead === 1 ? "picture" : "pictures"} before this one` : "Next in line";
  }
  if (job.state === "done") return "Painted; its timeline is being drawn…";
  return job.steps && job.step >= kept ? `Step ${job.step} of ${job.steps}` : "Beginning…";
}
