// The denoising tab: one picture's whole run, in the artist's hand.

import { button, el, onShown } from "./dom.js";
import { goTo, hear, say, tell } from "./desk.js";
import { Branching } from "./branch.js";
import { Choosing } from "./choosing.js";
import { Compare } from "./compare.js";
import { Curves } from "./curves.js";
import { Dissolving } from "./dissolve.js";
import { Ensemble } from "./ensemble.js";
import { Family } from "./family.js";
import { Film } from "./film.js";
import { Formula } from "./formula.js";
import { Keeping } from "./keeping.js";
import { Layers } from "./layers.js";
import { Outline } from "./outline.js";
import { activeGroup, Live, wordsFor } from "./live.js";
import { Pulls } from "./pulls.js";
import { Readout } from "./readout.js";
import { Takeaway } from "./takeaway.js";
import { Transport } from "./transport.js";
import { closeReel, fetchPicture, fetchReel, threadReel } from "./reel.js";

export function mount({ element, props, server }) {
  const desk = new Timeline(element.querySelector(".timeline"), props.told, server);
  hear("timeline", (artwork) => desk.open(artwork));
  hear("together", (artwork) => desk.ensemble.want(artwork));
  hear("watch", ({ group, job }) => desk.watch(group, job));
  hear("painted", () => {
    desk.stale = true;
    if (desk.root.dataset.state === "empty" && desk.root.offsetParent) desk.shown();
  });
  hear("forgotten", (artwork) => desk.forget(artwork));
  onShown(desk.root, () => desk.shown());
}

class Timeline {
  constructor(root, told, server) {
    this.root = root;
    this.server = server;
    this.stale = true;
    this.part = (name) => root.querySelector(`.timeline-${name}`);
    this.film = new Film(this.part("screen"), this.part("strip"), {
      label: "Steps from noise to picture",
      onMove: () => this.#read(),
      onPlay: (playing) => this.transport?.playing(playing),
    });
    this.curves = new Curves(this.part("curves"), told.schedule, (stop) => this.film.go(stop));
    this.film.rollOver(this.part("curves"));
    const open = (artwork, stop) => this.open(artwork, stop);
    this.branching = new Branching({ timeline: root, film: this.film, server, told, open,
      onBegin: () => {
        this.compare.leave();
        this.ensemble.leave();
      } });
    this.family = new Family({ origin: this.part("origin"), tree: this.part("family"), server, open, compare: (artwork) => this.#compare(artwork) });
    this.compare = new Compare(this.film, { place: this.part("ways"), onTurn: (on) => {
      root.toggleAttribute("data-comparing", on);
      this.layers.rest(on);
    } });
    this.choosing = new Choosing(root, this.part("choose").querySelector("h3"), this.compare);
    this.layers = new Layers({ film: this.film, place: this.part("heat"), prompt: this.part("prompt") });
    this.outline = new Outline(this.film);
    this.ensemble = new Ensemble(this.film, { server, onEnter: () => this.compare.leave(), open: (id) => this.#alone(id) });
    this.pulls = new Pulls(this.part("mix"), this.layers);
    this.readout = new Readout(root);
    this.formula = new Formula(this.part("formula"), { prediction: told.schedule.prediction_type });
    this.dissolving = new Dissolving({ root, film: this.film, server, put: (reel) => this.#putDissolving(reel), watch: (group) => this.watch(group, null),
      leave: () => this.#leaveDissolving(), shown: () => this.told, onBegin: () => { this.opening = null; } });
    this.takeaway = new Takeaway(this.part("takeaway"), () => this.transport.layer);
    this.live = new Live({
      onNews: (job, tiles) => this.#grow(job, tiles),
      onReady: (job) => this.#grown(job),
      onEnd: (job, sentence) => this.#stopped(job, sentence),
      onOver: (jobs) => this.#over(jobs),
    });
    this.pin = el("span.timeline-pin");
    this.keeping = new Keeping({ gone: this.part("gone"), usage: this.part("usage"), pin: this.pin, server,
      repaint: (group) => this.watch(group, null) });
    this.transport = new Transport(root, this.film,
      [this.curves.button(root), this.choosing.action, this.ensemble.button(), this.pin, this.branching.button()]);
    this.part("paint").addEventListener("click", () => goTo("prompt-to-image"));
    root.dataset.state = "empty";
  }

  async shown() {
    const group = await activeGroup();
    if (this.stale) {
      this.stale = false;
      const { artworks } = await this.server.with_timeline({});
      this.part("choose").hidden = artworks.length === 0;
      this.part("others").replaceChildren(...artworks.map((artwork) => this.#thumbnail(artwork)));
      this.keeping.count();
    }
    this.#offerLive(group);
    const newest = this.part("others").querySelector("[data-id]");
    const nothingYet = !this.artwork && !this.opening && !this.live.isOn && !this.dissolving.isOn;
    if (nothingYet && group) this.watch(group, null);
    else if (nothingYet && newest) this.open(newest.dataset.id);
    else this.#mark();
  }

  // What is being painted stands first among the timelines.
  #offerLive(group) {
    const others = this.part("others");
    others.querySelector("[data-group]")?.remove();
    if (!group || this.branching.isPainting) return;
    others.prepend(el("button.thumb.thumb-live", { type: "button", "data-group": group, title: "Being painted: watch it",
      "aria-label": "Watch what is being painted", onclick: () => this.watch(group, null) }));
    this.part("choose").hidden = false;
  }

  forget(artwork) {
    this.stale = true;
    if (artwork !== this.artwork) return;
    this.#clear();
    this.root.dataset.state = "empty";
  }

  // The easel is empty, for whatever comes next.
  #clear() {
    const { noise } = this.film;
    this.live.leave();
    this.ensemble.clear();
    this.dissolving.close();
    this.choosing.end();
    this.transport.name();
    this.artwork = null;
    this.told = null;
    this.film.clear();
    this.film.noise = noise;
    this.compare.leave();
    this.branching.shown(null);
    this.curves.show(null);
    this.layers.show(null);
    this.outline.show(null);
    this.pulls.show(null);
    this.family.clear();
    this.keeping.shown(null);
  }

  // A picture dissolves on the film, which is played towards the grain; `before` is what is gone back to.
  #putDissolving(reel) {
    const before = this.artwork ?? this.dissolved;
    this.#clear();
    this.dissolved = before;
    this.told = reel.told;
    this.dissolving.begin(reel.told);
    this.root.dataset.state = "open";
    this.transport.name({ denoised: "In pixels", latents: "In latents" });
    this.film.backwards = true;
    this.curves.show(reel.told);
    this.film.name("A picture that dissolves");
    this.part("screen").style.setProperty("--aspect", reel.told.recipe.width / reel.told.recipe.height);
    threadReel(this.film, reel);
    this.#read();
    this.#mark();
  }

  #leaveDissolving() {
    const { dissolved } = this;
    if (dissolved) this.open(dissolved);
    else this.forget(this.artwork);
  }

  #thumbnail(artwork) {
    const image = el("img", { src: `/artworks/${artwork.id}.png`, alt: artwork.recipe.prompt || "A picture without a prompt", loading: "lazy" });
    return el("button.thumb", { type: "button", "data-id": artwork.id, onclick: () => (this.choosing.isOn ? this.#compare(artwork.id) : this.open(artwork.id)) }, image);
  }

  #mark() {
    for (const thumb of this.part("others").children) {
      const shown = this.live.isOn ? thumb.dataset.group === this.live.group : thumb.dataset.id && thumb.dataset.id === this.artwork;
      thumb.setAttribute("aria-pressed", String(Boolean(shown)));
    }
  }

  // At the finished picture, or at another stop of its timeline.
  async open(artwork, stop = Infinity) {
    this.opening = artwork;
    let reel;
    try {
      reel = await fetchReel(artwork);
    } catch (error) {
      if (this.opening === artwork) await this.#openLost(artwork, error.message);
      return;
    }
    if (this.opening !== artwork) {
      closeReel(reel);
      return;
    }
    this.#clear();
    this.#put(reel);
    this.film.go(stop);
  }

  // The timeline is gone. The picture is not: it is shown, with what became of its timeline.
  async #openLost(artwork, sentence) {
    const lost = await this.server.lost({ id: artwork });
    if (this.opening !== artwork) return;
    this.opening = null;
    if (lost.group) this.watch(lost.group, null);
    else if (lost.sentence || lost.drawing) say(lost.drawing ? sentence : lost.sentence);
    else await this.#showLost(lost.artwork, sentence);
  }

  async #showLost({ id, recipe, mine, pinned }, sentence) {
    const picture = await fetchPicture(id).catch(() => null);
    this.#clear();
    this.artwork = id;
    this.told = { artwork: id, recipe, mine, pinned, steps: [], count: 0, gone: [sentence] };
    this.#frame(recipe);
    if (picture) this.film.setPicture(picture);
    this.keeping.shown(this.told);
    this.root.dataset.state = "lost";
    this.#read();
    this.#mark();
    this.family.show(id);
  }

  // Puts a whole timeline on the film, also in the place of one that has been growing there.
  #put(reel) {
    const { told } = reel;
    this.opening = null;
    this.artwork = told.artwork;
    this.told = told;
    this.takeaway.offer(told.artwork);
    this.root.dataset.state = "open";
    this.#frame(told.recipe);
    this.curves.show(told);
    threadReel(this.film, reel);
    this.branching.shown(told);
    this.keeping.shown(told);
    this.#read();
    this.#mark();
    this.family.show(told.artwork);
    this.ensemble.offer(told.artwork);
    if (this.stale) this.shown();
  }

  #frame(recipe) {
    this.part("screen").style.setProperty("--aspect", recipe.width / recipe.height);
    this.film.name(recipe.prompt);
    this.film.expect(0, recipe.width, recipe.height);
    this.#title();
    this.layers.show(this.told);
    this.outline.show(this.told);
    this.pulls.show(this.told);
  }

  // Follows what is being painted: the picture `job` of a group alone, or all of it side by side.
  watch(group, job) {
    this.opening = null;
    this.#clear();
    this.watched = job;
    this.together = job === null;
    this.root.dataset.state = "live";
    this.part("live").replaceChildren(el("span.live-words"), button("Cancel", "close", () => this.#cancel(group)));
    this.live.follow(group);
    this.#mark();
  }

  #grow(job, tiles) {
    this.part("live").querySelector("button").hidden = !this.live.isPainting;
    if (!this.watched && !job.settled) this.watched = job.id;
    const onFilm = job.id === this.watched;
    if (this.together && this.watched && this.live.jobs.size > 1) {
      for (const { id, recipe } of this.live.jobs.values()) this.ensemble.place(id, recipe, id === this.watched);
      this.ensemble.tell(job.id, `Seed ${job.recipe.seed}${job.state === "running" ? `, step ${job.step}` : ""}`);
      if (!onFilm) this.ensemble.grow(job.id, job.told.count, tiles);
    } else if (!onFilm) tiles.forEach(([, tile]) => tile.bitmap.close());
    if (onFilm && !job.over) this.#growFilm(job, tiles);
  }

  #growFilm(job, tiles) {
    const { film } = this;
    const first = this.told === null;
    this.told = job.told;
    this.root.querySelector(".live-words").textContent = wordsFor(job);
    if (first) this.#frame(job.recipe);
    film.expect(job.told.count, job.recipe.width, job.recipe.height);
    for (const [step, tile] of tiles) film.setTile("denoised", step, tile);
    this.curves.show(job.told);
    this.pulls.show(job.told);
    this.#read();
    if (job.artwork && !film.picture) this.#finishLive(job);
  }

  // The picture is there, while its timeline is still being drawn.
  async #finishLive(job) {
    const picture = await fetchPicture(job.artwork).catch(() => null);
    if (!picture) return;
    if (this.watched === job.id && !this.film.picture) this.film.setPicture(picture);
    else picture.bitmap.close();
    this.#read();
  }

  // The last step has come and everything is drawn: where she is, she stays.
  async #grown(job) {
    const onFilm = job.id === this.watched;
    if (!onFilm && !this.ensemble.isOpen) return;
    const { group } = this.live;
    const reel = await fetchReel(job.artwork).catch((error) => error);
    const failed = reel instanceof Error;
    if (!this.live.isOn || this.live.group !== group) {
      if (!failed) closeReel(reel);
    } else if (!onFilm) {
      if (failed) this.ensemble.tell(job.id, reel.message);
      else this.ensemble.put(job.id, reel);
    } else if (failed) await this.open(job.artwork);
    else {
      const others = this.ensemble.isOpen;
      if (!others) this.live.leave();
      this.#put(reel);
      // Beside it the others of its group are still being painted.
      if (others) this.#showOthers();
      else this.#over([job]);
    }
  }

  #showOthers() {
    this.root.dataset.state = "live";
    this.root.querySelector(".live-words").textContent = "This one is painted, the others are on their way";
  }

  // Nothing more will come of what was being painted.
  #over(jobs) {
    this.watched = null;
    if (this.artwork) this.root.dataset.state = "open";
    for (const job of jobs.filter(({ timeline_ready: ready }) => ready)) tell("painted", job);
    if (!this.told && jobs.length > 0) this.#giveUp(jobs[0]); // all had ended before she came to watch
    else if (this.artwork) this.ensemble.offer(this.artwork);
    if (this.stale) this.shown();
  }

  async #stopped(job, sentence) {
    this.ensemble.tell(job.id, sentence);
    if (job.id !== this.watched) return;
    say(sentence);
    await this.#giveUp(job);
  }

  async #giveUp(job) {
    this.watched = null;
    this.stale = true;
    const artwork = job.artwork ?? job.repaints;
    if (artwork) {
      await this.open(artwork);
      return;
    }
    this.#clear();
    this.root.dataset.state = "empty";
    this.shown();
  }

  // One of those that stand side by side, at the same stop.
  #alone(id) {
    const { stop } = this.film;
    if (id === this.artwork) this.ensemble.leave();
    else if (this.live.isOn && !this.live.jobs.get(id)?.timeline_ready) this.watch(this.live.group, id);
    else this.open(id, stop);
  }

  async #cancel(group) {
    const answer = await this.server.cancel({ group });
    if (answer.sentence) say(answer.sentence);
  }

  async #compare(artwork) {
    this.ensemble.leave();
    this.choosing.end();
    try {
      await this.compare.enter(this.told, artwork);
    } catch (error) {
      say(error.message);
    }
  }

  #title() {
    const { recipe } = this.told;
    this.part("recipe").textContent =
      `${recipe.sampler} · ${recipe.num_inference_steps} steps · guidance ${recipe.guidance_scale} · seed ${recipe.seed}`
      + (recipe.source ? ` · begun from a picture, strength ${recipe.source.strength}` : "");
  }

  // What this step is, wherever something follows the scrubber.
  #read() {
    if (!this.told) return;
    const { told, film } = this;
    const way = this.dissolving.isOpen ? "there" : "back";
    const [step, next] = [told.steps[film.stop], told.steps[film.stop + 1]];
    this.curves.move(film.stop);
    this.layers.move(film.stop);
    this.pulls.move(film.stop);
    this.branching.moved();
    this.dissolving.moved();
    this.formula.show({ way, step, next, recipe: told.recipe });
    this.readout.show(told, film.stop, way);
  }
}
