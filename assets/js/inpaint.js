// The inpainting tab: bring a picture, paint over what should change, say what should be there, and watch it come.

import { Board } from "./board.js";
import { bringing } from "./bringing.js";
import { blobOf, el, refill } from "./dom.js";
import { hear, say, tell } from "./desk.js";
import { FillForm } from "./fillform.js";
import { Fills, wordsFor } from "./fills.js";
import { Handles } from "./handles.js";
import { KeptDesk } from "./keptdesk.js";
import { Laying } from "./laying.js";
import { MaskTools } from "./masktools.js";
import { offersOf, wovenOffers } from "./offers.js";
import { imageOf, pictureAt, Refusal, send } from "./sources.js";
import { Thumbs } from "./thumbs.js";
import { Weaving } from "./weaving.js";

const NOTHING = [0, 0, 0, 0];

export function mount({ element, props, server }) {
  new Inpainting(element.querySelector(".inpaint"), props.told, server);
}

class Inpainting {
  constructor(root, told, server) {
    Object.assign(this, { root, told, server });
    this.kept = new KeptDesk(() => this.board.masks?.kept ?? null);
    this.board = new Board(root.querySelector(".inpaint-canvas"), {
      changed: () => this.#changed(),
      drawn: () => this.handles?.place(),
      grew: (pixels) => {
        this.form.extend = this.grownTo = pixels;
        this.#grow();
      },
    });
    this.board.wiped = (at) => {
      this.slider.value = String(at);
    };
    this.weaving = new Weaving(this.board, { image: (job) => imageOf(job), changed: () => this.#show("weaving") });
    this.form = new FillForm(root.querySelector(".inpaint-form"), told, () => server.list_presets({}));
    this.fills = new Fills({
      previewed: (job) => this.#showPreview(job),
      filled: (job) => this.#showFill(job),
      heard: () => this.#describe(),
      lost: () => this.#show("mask"),
    });
    this.laying = new Laying({
      lay: (message) => server.lay_fill(message),
      changed: (job) => (job === this.fills.job ? this.#showFill(job) : null),
      refused: (error) => this.#refuse(error),
    });
    this.#build();
    this.#listen();
    // What is sent or brought here comes upon the desk as it was left.
    this.recalled = this.#recall();
    this.recalled.finally(() => hear("inpaint", (artwork) => this.#bringFrom(() => send(`/sources/from/${artwork}`))));
  }

  #build() {
    this.tools = new MaskTools(this.board);
    this.handles = new Handles(this.board, {
      most: this.told.most_px,
      sizes: () => {
        const { width, height } = this.kept.desk.source;
        const scale = (this.board.view.scale * this.board.picture.width) / width / (window.devicePixelRatio || 1);
        return { width, height, margins: this.form.margins, scale };
      },
      grow: (margins, done) => {
        this.form.extend = margins;
        this.#grow({ held: !done });
        if (done) this.#noteGrowth();
        this.#remember();
      },
    });
    this.slider = el("input.inpaint-wipe", { type: "range", min: 0, max: 1, step: 0.002, value: 0, "aria-label": "Before and after" });
    this.slider.addEventListener("input", () => {
      this.board.wipe = Number(this.slider.value);
      this.board.draw();
    });
    this.comparing = el("div.inpaint-comparing", {}, el("span", {}, "After"), this.slider, el("span", {}, "Before"), this.laying.element);
    this.thumbs = new Thumbs((job) => this.#choose(job));
    this.actions = el("div.inpaint-actions");
    this.status = el("p.inpaint-status", { role: "status" });
    const line = el("div.inpaint-line", {}, this.status, this.tools.list.element, this.actions);
    this.root.querySelector(".inpaint-bar").replaceChildren(this.tools.element, this.comparing, this.thumbs.element, line);
    bringing(this.root, (file) => this.bring(file));
  }

  #listen() {
    this.form.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.paint();
    });
    this.form.form.addEventListener("input", (event) => {
      if (event.target.dataset.side) this.#grow();
      if (event.target === this.form.fields.feather_px) this.#feather();
      this.#remember();
    });
    this.form.form.addEventListener("change", (event) => {
      if (event.target.dataset.side) this.#noteGrowth();
    });
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  #key(event) {
    if (!this.root.offsetParent || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.paint();
    } else if (event.key === "Escape" && this.weaving.isOn) this.leaveWeaving();
    else if (event.key === "Escape" && this.fills.running) this.cancel();
  }

  // Pictures

  async bring(file) {
    this.status.textContent = "Opening…";
    this.#show(this.kept.desk.source ? this.root.dataset.view : "empty", true);
    await this.#bringFrom(() => send("/sources", file));
    this.#describe();
  }

  async #bringFrom(asked) {
    this.form.complain({});
    try {
      const source = await asked();
      await this.recalled;
      this.#layAside();
      await this.#open(source);
    } catch (error) {
      this.#refuse(error);
    }
  }

  #refuse(error) {
    if (!(error instanceof Refusal)) throw error;
    this.form.complain({ sentence: error.message, field: "image" });
  }

  // Without `extend`, the picture grows as is typed by the time that it is here.
  async #open(source, masks = null, extend = NOTHING) {
    const bitmap = await pictureAt(`/sources/${source.source}/view.webp`);
    if (this.weaving.isOn) this.weaving.end();
    this.fills.leave();
    this.kept.lay(source);
    this.form.extend = this.grownTo = extend ?? this.form.margins;
    this.board.wipe = 0;
    this.slider.value = "0";
    this.board.open(bitmap, this.#margins(source, bitmap), masks);
    this.#feather();
    this.tools.show();
    this.#show("mask");
    this.#remember();
  }

  // The picture grows on the board as it is typed or pulled; the board may show it smaller than it is.
  #margins(source, bitmap) {
    return this.form.margins.map((side) => Math.round((side * bitmap.width) / source.width));
  }

  #grow(how) {
    const { source } = this.kept.desk;
    if (source && this.board.picture) this.board.extend(this.#margins(source, this.board.picture), how);
  }

  // Growth can be taken back like a stroke: once it is chosen, not at every pixel on the way there.
  #noteGrowth() {
    const [from, to] = [this.grownTo, this.form.margins];
    if (!this.board.masks || this.board.locked || JSON.stringify(from) === JSON.stringify(to)) return;
    this.grownTo = to;
    this.board.masks.past.note({ from, to });
    this.#changed();
  }

  // How far the mask fades out is seen on the board.
  #feather() {
    const { source } = this.kept.desk;
    if (!source || !this.board.picture) return;
    const typed = Math.min(Math.max(Number(this.form.fields.feather_px.value) || 0, 0), this.told.most_feather_px);
    this.board.veil.feather = Math.round((typed * this.board.picture.width) / source.width);
    this.board.draw();
  }

  // What is on the desk can be come back to.
  #layAside(fill = false) {
    if (this.weaving.isOn) this.weaving.end();
    const { source } = this.kept.desk;
    if (source && this.board.masks) this.kept.push({ source, fill, masks: this.board.masks.kept, extend: this.form.extend });
  }

  another() {
    this.#layAside();
    this.#putAway();
  }

  #putAway() {
    this.fills.leave();
    this.board.close();
    this.kept.lay(null);
    this.#show("empty");
    this.#remember();
  }

  // Filling

  async paint() {
    this.form.complain({});
    const { source } = this.kept.desk;
    if (!source) return this.form.complain({ sentence: "Bring a picture first.", field: "image" });
    if (this.fills.running || this.weaving.isOn) return undefined;
    const { masks } = this.board;
    if (masks.isEmpty && this.form.margins.every((side) => side === 0)) {
      const sentence = masks.hides ? "What you painted over is hidden: show a mask, or paint over what should change." : "Paint over what should change first.";
      return this.form.complain({ sentence, field: "mask" });
    }
    this.form.fill.disabled = true;
    try {
      const mask = masks.isEmpty ? null : (await send("/sources", await this.board.file())).source;
      const { mix, extend } = this.form;
      const answer = await this.server.fill({ ...this.form.values, image: source.source, mask, mix, extend });
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
    this.board.after = null;
    Object.assign(this.kept.desk, { group, region });
    this.#remember();
    this.fills.follow(group);
    this.#show("painting");
  }

  async cancel() {
    const answer = await this.server.cancel({ group: this.kept.desk.group });
    if (answer.sentence) say(answer.sentence);
  }

  async #showPreview(job) {
    const bitmap = await createImageBitmap(blobOf(job.preview));
    if (job !== this.fills.job || job.artwork) return;
    this.board.preview = { bitmap, region: this.kept.desk.region };
    this.board.draw();
  }

  async #showFill(job) {
    const bitmap = await imageOf(this.laying.of(job));
    if (this.weaving.isOn || job !== this.fills.job) return;
    this.#describe();
    if (this.board.after === bitmap) return;
    this.board.preview = null;
    this.board.after = bitmap;
    this.board.wipe = Number(this.slider.value);
    this.board.draw();
    this.#show("filled");
  }

  #choose(job) {
    if (!this.weaving.isOn) this.fills.choose(job);
    else if (job.artwork && job.id !== this.weaving.under.id) this.weaving.begin(this.weaving.under, job);
  }

  backToMask() {
    this.fills.leave();
    this.kept.desk.group = null;
    this.board.after = this.board.preview = null;
    this.#grow();
    this.board.draw();
    this.#show("mask");
    this.#remember();
  }

  async goOnFrom(job) {
    try {
      const next = await send(`/sources/from/${job.artwork}`);
      this.#layAside(true);
      await this.#open(next);
      say("You paint on from this fill.");
    } catch (error) {
      this.#refuse(error);
    }
  }

  async takeBack() {
    const { source, masks, extend } = this.kept.pop();
    try {
      await this.#open(source, masks, extend);
    } catch (error) {
      this.#refuse(error);
    }
  }

  // Two fills are brushed into one, which is kept, and painted on from.

  leaveWeaving() {
    const { under } = this.weaving;
    this.weaving.end();
    this.board.after = null;
    this.#showFill(under);
  }

  async keepWoven() {
    const { under, over } = this.weaving;
    try {
      const mask = await send("/sources", await this.board.file());
      const answer = await this.server.brush_together({ under: under.artwork, over: over.artwork, mask: mask.source });
      if (answer.sentence) return this.form.complain(answer);
      this.weaving.end();
      tell("painted", { id: answer.artwork, recipe: {} });
      await this.goOnFrom(answer);
    } catch (error) {
      this.#refuse(error);
    }
    return undefined;
  }

  // What stands below the board

  #describe() {
    const { job, running, all } = this.fills;
    const { view } = this.root.dataset;
    const woven = this.weaving.isOn;
    const shown = woven ? this.weaving.over : job;
    this.root.dataset.state = running ? "running" : "rest";
    this.status.textContent = woven ? "Paint where the other fill should show." : job ? wordsFor(job) : view === "mask" ? "Paint over what should change." : "";
    this.laying.show(job);
    this.tools.list.show();
    this.thumbs.show(all, shown);
    const laid = this.laying.of(job);
    const other = all.find((one) => one.artwork && one.id !== job?.id);
    const now = JSON.stringify([view, laid?.artwork, job?.id, job?.state, laid?.timeline_ready, running, this.kept.before.length, other?.id, woven]);
    if (now === this.offered) return;
    this.offered = now;
    const what = { job, laid, other, running, last: this.kept.last, source: this.kept.desk.source };
    refill(this.actions, woven ? wovenOffers(this) : offersOf(what, this));
  }

  #show(view, busy = false) {
    this.root.dataset.view = view;
    this.root.classList.toggle("is-opening", busy);
    this.handles.place();
    if (!busy) this.#describe();
  }

  // What is on the desk outlives a reload: the picture, its masks and how they came, the form, what is being painted.

  async #changed() {
    this.tools.list.show();
    if (this.weaving.isOn) return; // this mask is not the picture's
    if (!(await this.kept.putMasks()) && !this.warned) {
      this.warned = true;
      say("This browser has no room for your masks: a reload would lose them.");
    }
  }

  #remember() {
    this.kept.putDesk(this.form.values);
  }

  async #recall() {
    this.#show("empty");
    const { source, group, region, form } = this.kept.recallDesk();
    this.form.values = form;
    const masks = await this.kept.recallMasks(source);
    if (!source) return this.#describe();
    try {
      await this.#open(source, masks, null);
    } catch (error) {
      if (error instanceof Refusal) this.#putAway();
      else this.form.complain({ sentence: "The studio does not answer; what you painted is kept here. Reload the page.", field: "image" });
      return undefined;
    }
    if (group) this.follow(group, region);
    return undefined;
  }
}
