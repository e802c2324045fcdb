// The inpainting tab: bring a picture, paint over what should change, say what should be there, and watch it come.

import { Board } from "./board.js";
import { blobOf, button, el, isTyping, parseJSON } from "./dom.js";
import { hear, openTimeline, say, tell } from "./desk.js";
import { FillForm } from "./fillform.js";
import { downloadLink } from "./wall.js";
import { Weaving } from "./weaving.js";

const REMEMBERED = "atelier.inpaint";
const FOLLOWED = "atelier.group.inpaint";
const ENDED = ["done", "failed", "cancelled"];
const TOOLS = [
  ["brush", "Brush", "B"],
  ["eraser", "Eraser", "E"],
  ["wand", "Similar colour", "W"],
];

export function mount({ element, props, server }) {
  new Inpainting(element.querySelector(".inpaint"), props.told, server);
}

class Inpainting {
  constructor(root, told, server) {
    this.root = root;
    this.told = told;
    this.server = server;
    this.jobs = new Map();
    this.kept = { source: null, mask: null, group: null, region: null, history: [], form: {} };
    this.board = new Board(root.querySelector(".inpaint-canvas"), { changed: () => this.#changed() });
    this.board.wiped = (at) => {
      this.slider.value = String(at);
    };
    this.weaving = new Weaving(this.board, { image: (job) => imageOf(job), changed: () => this.#show("weaving") });
    this.form = new FillForm(root.querySelector(".inpaint-form"), told, () => server.list_presets({}));
    this.#build();
    this.#listen();
    this.#recall();
    hear("inpaint", (artwork) => this.openArtwork(artwork));
  }

  #build() {
    this.tools = TOOLS.map(([tool, name, key]) => {
      const one = el("button.inpaint-tool", { type: "button", "data-tool": tool, title: `${name} (${key})`, onclick: () => this.#take(tool) }, name);
      return one;
    });
    this.size = el("input.inpaint-size", { type: "range", min: 2, max: 400, step: 1, "aria-label": "Size of the brush" });
    this.size.addEventListener("input", () => {
      if (this.board.tool === "wand") this.board.tolerance = Number(this.size.value);
      else this.board.size = this.board.chosen = Number(this.size.value);
      this.board.draw();
    });
    const act = (label, title, onclick) => el("button.inpaint-act", { type: "button", title, onclick }, label);
    this.masking = el("div.inpaint-masking", { role: "toolbar", "aria-label": "Mask" },
      el("div.inpaint-tools", { role: "group", "aria-label": "Tool" }, ...this.tools),
      this.size,
      act("Undo", "Undo (Ctrl+Z)", () => this.board.undo()),
      act("Redo", "Redo (Ctrl+Shift+Z)", () => this.board.redo()),
      act("Invert", "Cover what is bare, bare what is covered (I)", () => this.board.invert()),
      act("Grow", "Let the mask grow by 4 pixels", () => this.board.grow(4)),
      act("Shrink", "Let the mask shrink by 4 pixels", () => this.board.grow(-4)),
      act("Clear", "Take the whole mask away", () => this.board.clear()),
      act("Fit", "See the whole picture (0)", () => this.board.fit()),
      el("span.inpaint-away", {}, act("Another picture", "Put this one away", () => this.#putAway())),
    );
    this.slider = el("input.inpaint-wipe", { type: "range", min: 0, max: 1, step: 0.002, value: 0, "aria-label": "Before and after" });
    this.slider.addEventListener("input", () => {
      this.board.wipe = Number(this.slider.value);
      this.board.draw();
    });
    this.comparing = el("div.inpaint-comparing", {}, el("span", {}, "After"), this.slider, el("span", {}, "Before"));
    this.fills = el("div.inpaint-fills", { role: "group", "aria-label": "Fills" });
    this.actions = el("div.inpaint-actions");
    this.status = el("p.inpaint-status", { role: "status" });
    this.root.querySelector(".inpaint-bar").replaceChildren(this.masking, this.comparing, this.fills, el("div.inpaint-line", {}, this.status, this.actions));
    this.file = el("input", { type: "file", accept: "image/*,.heic,.heif,.tif,.tiff,.avif", hidden: true, "aria-label": "A picture from your files" });
    this.file.addEventListener("change", () => this.file.files[0] && this.bring(this.file.files[0]));
    this.root.querySelector(".inpaint-choose").addEventListener("click", () => this.file.click());
    this.root.append(this.file);
    this.#take("brush");
  }

  #listen() {
    this.form.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.paint();
    });
    this.form.form.addEventListener("input", (event) => {
      if (event.target.dataset.side) this.#grow();
      this.#remember();
    });
    const over = this.root.querySelector(".inpaint-easel");
    over.addEventListener("dragover", (event) => event.preventDefault());
    over.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files[0]) this.bring(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
      if (file && this.root.offsetParent) this.bring(file);
    });
    document.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("keyup", (event) => {
      if (event.key === " ") this.board.held = false;
    });
  }

  #key(event) {
    if (!this.root.offsetParent || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.paint();
      return;
    }
    if (event.key === "Escape" && this.weaving.isOn) {
      this.#leaveWeaving();
      return;
    }
    if (event.key === "Escape" && this.#running) {
      this.cancel();
      return;
    }
    if (isTyping(event.target)) return;
    const keys = {
      b: () => this.#take("brush"), e: () => this.#take("eraser"), w: () => this.#take("wand"), i: () => this.board.invert(),
      0: () => this.board.fit(), "+": () => this.board.zoom(1.25), "-": () => this.board.zoom(0.8),
      "[": () => this.#resize(0.8), "]": () => this.#resize(1.25), " ": () => (this.board.held = true),
    };
    if (event.ctrlKey || event.metaKey) {
      if (event.key.toLowerCase() !== "z") return;
      event.preventDefault();
      if (event.shiftKey) this.board.redo();
      else this.board.undo();
    } else if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  }

  #take(tool) {
    this.board.tool = tool;
    for (const one of this.tools) one.setAttribute("aria-pressed", String(one.dataset.tool === tool));
    this.#showSize();
    this.board.draw();
  }

  #resize(factor) {
    this.board.size = this.board.chosen = Math.min(400, Math.max(2, Math.round(this.board.size * factor)));
    this.#showSize();
    this.board.draw();
  }

  #showSize() {
    const wand = this.board.tool === "wand";
    this.size.max = wand ? "128" : "400";
    this.size.value = String(wand ? this.board.tolerance : this.board.size);
    this.size.setAttribute("aria-label", wand ? "How alike the colours are" : "Size of the brush");
  }

  // Pictures

  async bring(file) {
    this.form.complain({});
    this.status.textContent = "Opening…";
    this.#show(this.kept.source ? "mask" : "empty", true);
    try {
      await this.#open(await this.#send("/sources", file));
    } catch (error) {
      this.status.textContent = "";
      this.#refuse(error);
    }
  }

  async openArtwork(artwork) {
    this.form.complain({});
    try {
      await this.#open(await this.#send(`/sources/from/${artwork}`));
    } catch (error) {
      this.#refuse(error);
    }
  }

  async #send(url, body) {
    const headers = body ? { "Content-Type": body.type.startsWith("image/") ? body.type : "application/octet-stream" } : {};
    let answer;
    try {
      answer = await fetch(url, { method: "POST", body, headers });
    } catch {
      throw new Refusal("The studio does not answer; what you painted is kept here. Try once more.");
    }
    const said = await answer.json();
    if (!answer.ok) throw new Refusal(said.sentence);
    return said;
  }

  #refuse(error) {
    if (!(error instanceof Refusal)) throw error;
    this.form.complain({ sentence: error.message, field: "image" });
  }

  async #open(source, mask = null, extend = [0, 0, 0, 0]) {
    const bitmap = await pictureAt(`/sources/${source.source}/view.webp`);
    this.form.extend = extend;
    this.board.open(bitmap, this.#margins(source, bitmap));
    this.#showSize();
    this.source?.close();
    this.jobs.clear();
    this.kept = { ...this.kept, source, mask: null, group: null, region: null };
    this.board.wipe = 0;
    this.slider.value = "0";
    if (mask) await this.board.recall(mask);
    this.#show("mask");
    this.#remember();
  }

  // The picture grows on the board as it is typed; the board may show it smaller than it is.
  #margins(source, bitmap) {
    return this.form.margins.map((side) => Math.round((side * bitmap.width) / source.width));
  }

  #grow() {
    if (this.kept.source && this.board.picture) this.board.extend(this.#margins(this.kept.source, this.board.picture));
  }

  #putAway() {
    this.board.close();
    this.kept = { ...this.kept, source: null, mask: null, group: null, region: null, history: [] };
    this.#show("empty");
    this.#remember();
  }

  // Filling

  async paint() {
    this.form.complain({});
    if (!this.kept.source) return this.form.complain({ sentence: "Bring a picture first.", field: "image" });
    if (this.#running || this.weaving.isOn) return undefined;
    const bare = this.board.isEmpty;
    if (bare && this.form.margins.every((side) => side === 0)) return this.form.complain({ sentence: "Paint over what should change first.", field: "mask" });
    this.form.fill.disabled = true;
    try {
      const mask = bare ? null : (await this.#send("/sources", await this.board.file())).source;
      const { mix, extend } = this.form;
      const answer = await this.server.fill({ ...this.form.values, image: this.kept.source.source, mask, mix, extend });
      if (answer.sentence) this.form.complain(answer);
      else this.follow(answer.group, answer.region);
    } catch (error) {
      this.#refuse(error);
    } finally {
      this.form.fill.disabled = false;
    }
    return undefined;
  }

  follow(group, region) {
    this.source?.close();
    this.jobs.clear();
    this.chosen = null;
    this.board.after = null;
    this.kept.group = group;
    this.kept.region = region;
    this.#remember();
    const source = new EventSource(`/jobs/${encodeURIComponent(group)}/stream`);
    this.source = source;
    source.addEventListener("job", (event) => this.#hear(parseJSON(event.data)));
    source.addEventListener("end", () => source.close());
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED && this.jobs.size === 0) this.#show("mask");
    };
    this.#show("painting");
  }

  get #running() {
    return this.jobs.size > 0 && [...this.jobs.values()].some((job) => !ENDED.includes(job.state));
  }

  async cancel() {
    const answer = await this.server.cancel({ group: this.kept.group });
    if (answer.sentence) say(answer.sentence);
  }

  #hear(news) {
    const job = this.jobs.get(news.id) ?? {};
    const wasReady = job.timeline_ready;
    const last = news.previews.at(-1);
    Object.assign(job, news);
    if (last) job.preview = last[1];
    this.jobs.set(job.id, job);
    this.chosen ??= job.id;
    if (last && job.id === this.chosen && job.state !== "done") this.#showPreview(job);
    if (job.timeline_ready && !wasReady) tell("painted", job);
    if (job.artwork && job.id === this.chosen) this.#showFill(job);
    this.#describe();
  }

  async #showPreview(job) {
    const bitmap = await createImageBitmap(blobOf(job.preview));
    if (job.id !== this.chosen || job.artwork) return;
    this.board.preview = { bitmap, region: this.kept.region };
    this.board.draw();
  }

  async #showFill(job) {
    const bitmap = await imageOf(job);
    if (this.weaving.isOn || job.id !== this.chosen || this.board.after === bitmap) return;
    this.board.preview = null;
    this.board.after = bitmap;
    this.board.wipe = Number(this.slider.value);
    this.board.draw();
    this.#show("filled");
    this.#describe();
  }

  #choose(job) {
    if (this.weaving.isOn) {
      if (job.artwork && job.id !== this.weaving.under.id) this.weaving.begin(this.weaving.under, job);
      return;
    }
    this.chosen = job.id;
    if (job.artwork) this.#showFill(job);
    else if (job.preview) this.#showPreview(job);
    this.#describe();
  }

  #backToMask() {
    this.source?.close();
    this.jobs.clear();
    this.kept.group = null;
    this.board.after = this.board.preview = null;
    this.#grow();
    this.board.draw();
    this.#show("mask");
    this.#remember();
  }

  async #goOnFrom(job) {
    const before = { source: this.kept.source, mask: this.board.remembered(), extend: this.form.extend };
    try {
      const next = await this.#send(`/sources/from/${job.artwork}`);
      this.kept.history = [...this.kept.history, before].slice(-12);
      await this.#open(next);
      say("You paint on from this fill.");
    } catch (error) {
      this.#refuse(error);
    }
  }

  // Two fills are brushed into one, which is kept, and painted on from.

  #leaveWeaving() {
    const { under } = this.weaving;
    this.weaving.end();
    this.board.after = null;
    this.#showFill(under);
  }

  async #keepWoven() {
    const { under, over } = this.weaving;
    try {
      const mask = await this.#send("/sources", await this.board.file());
      const answer = await this.server.brush_together({ under: under.artwork, over: over.artwork, mask: mask.source });
      if (answer.sentence) return this.form.complain(answer);
      this.weaving.end();
      tell("painted", { id: answer.artwork, recipe: {} });
      await this.#goOnFrom(answer);
    } catch (error) {
      this.#refuse(error);
    }
    return undefined;
  }

  async #takeBack() {
    const before = this.kept.history.at(-1);
    this.kept.history = this.kept.history.slice(0, -1);
    await this.#open(before.source, before.mask, before.extend);
  }

  #describe() {
    const jobs = [...this.jobs.values()].sort((a, b) => a.index - b.index);
    const job = this.jobs.get(this.chosen);
    const running = this.#running;
    this.root.dataset.state = running ? "running" : "rest";
    const woven = this.weaving.isOn;
    const shown = woven ? this.weaving.over : job;
    const other = jobs.find((one) => one.artwork && one.id !== job?.id);
    this.status.textContent = woven ? "Paint where the other fill should show." : job ? wordsFor(job) : this.root.dataset.view === "mask" ? "Paint over what should change." : "";
    this.fills.hidden = jobs.length < 2;
    this.fills.replaceChildren(...(jobs.length < 2 ? [] : jobs.map((one) => {
      const thumb = el("button.inpaint-thumb", { type: "button", "aria-pressed": String(one.id === shown?.id), "aria-label": `Fill ${one.index + 1}`, onclick: () => this.#choose(one) });
      if (one.preview) thumb.append(el("img", { src: one.preview, alt: "" }));
      return thumb;
    })));
    const now = JSON.stringify([this.root.dataset.view, job?.id, job?.state, job?.artwork, job?.timeline_ready, running, this.kept.history.length, other?.id, woven]);
    if (now === this.offered) return;
    this.offered = now;
    const offers = [];
    if (woven) {
      offers.push(button("Leave it", "close", () => this.#leaveWeaving()),
        el("button.accent", { type: "button", onclick: () => this.#keepWoven() }, "Keep both as one"));
      this.actions.replaceChildren(...offers);
      return;
    }
    if (running) {
      const stop = button("Cancel", "close", () => this.cancel(), { className: "quiet.cancel" });
      stop.append(el("kbd", {}, "Esc"));
      offers.push(stop);
    } else if (job) offers.push(button("Back to the mask", "reuse", () => this.#backToMask()));
    else if (this.kept.history.length && this.root.dataset.view === "mask") offers.push(button("Take the last fill back", "reuse", () => this.#takeBack()));
    if (job?.artwork && other && !running) offers.push(button("Brush another in", "lerp", () => this.weaving.begin(job, other)));
    if (job?.artwork) {
      const timeline = button("Open timeline", "film", () => openTimeline(job.artwork));
      timeline.disabled = !job.timeline_ready;
      offers.push(timeline, downloadLink(job.artwork), el("button.accent.inpaint-on", { type: "button", onclick: () => this.#goOnFrom(job) }, "Paint on from this"));
    }
    this.actions.replaceChildren(...offers);
  }

  #show(view, busy = false) {
    this.root.dataset.view = view;
    this.root.classList.toggle("is-opening", busy);
    if (!busy) this.#describe();
  }

  // What is on the desk outlives a reload: the picture, the mask, the form, and what is being painted.

  #changed() {
    if (this.weaving.isOn) return; // this mask is not the picture's
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.#remember(), 250);
  }

  #remember() {
    clearTimeout(this.soon);
    this.kept.form = this.form.values;
    if (this.kept.source && this.board.mask && !this.weaving.isOn) this.kept.mask = this.board.remembered();
    // The first tab's stage leaves alone what another tab follows, which it knows by this name.
    if (this.kept.group) localStorage.setItem(FOLLOWED, this.kept.group);
    else localStorage.removeItem(FOLLOWED);
    for (;;) {
      try {
        localStorage.setItem(REMEMBERED, JSON.stringify(this.kept));
        return;
      } catch {
        // The browser keeps only so much: the oldest way back goes first.
        if (this.kept.history.length === 0) return;
        this.kept.history = this.kept.history.slice(1);
      }
    }
  }

  async #recall() {
    const kept = JSON.parse(localStorage.getItem(REMEMBERED) ?? "null");
    this.#show("empty");
    if (!kept) return;
    this.form.values = kept.form ?? {};
    if (!kept.source) return;
    const { group, region } = kept;
    try {
      this.kept.history = kept.history ?? [];
      await this.#open(kept.source, kept.mask, this.form.extend);
    } catch {
      this.#putAway();
      return;
    }
    if (group) this.follow(group, region);
  }
}

class Refusal extends Error {}

async function pictureAt(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Refusal((await answer.json()).sentence);
  return createImageBitmap(await answer.blob());
}

// The picture of a fill that is done.
function imageOf(job) {
  job.image ??= pictureAt(`/artworks/${job.artwork}.png`);
  return job.image;
}

function wordsFor(job) {
  switch (job.state) {
    case "queued":
      return job.ahead > 0 ? `In line: ${job.ahead} before this one` : "Next in line";
    case "running":
      return job.steps ? `Step ${job.step} of ${job.steps}` : "Beginning…";
    case "failed":
      return job.sentence || "This fill could not be painted.";
    case "cancelled":
      return "Cancelled";
    default:
      return "Finished. Drag across it to compare.";
  }
}
