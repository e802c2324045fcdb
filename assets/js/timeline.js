// The denoising tab: one picture's whole run, in the artist's hand.

import { button, el, onShown } from "./dom.js";
import { goTo, hear, say, tell } from "./desk.js";
import { Branching } from "./branch.js";
import { Compare } from "./compare.js";
import { Curves } from "./curves.js";
import { Ensemble } from "./ensemble.js";
import { Family } from "./family.js";
import { Film } from "./film.js";
import { Keeping } from "./keeping.js";
import { Layers } from "./layers.js";
import { activeGroup, Live } from "./live.js";
import { Pulls } from "./pulls.js";
import { Takeaway } from "./takeaway.js";
import { closeReel, fetchPicture, fetchReel, threadReel } from "./reel.js";

export function mount({ element, props, server }) {
  const desk = new Timeline(element.querySelector(".timeline"), props.told, server);
  hear("timeline", (artwork) => desk.open(artwork));
  hear("together", (artwork) => desk.ensemble.want(artwork));
  hear("watch", ({ group, job }) => desk.watch(group, job));
  hear("painted", () => { desk.stale = true; });
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
      onPlay: (playing) => this.#showPlaying(playing),
    });
    this.curves = new Curves(this.part("curves"), told.schedule, (stop) => this.film.go(stop));
    const open = (artwork, stop) => this.open(artwork, stop);
    this.branching = new Branching({ timeline: root, film: this.film, server, samplers: told.samplers, open,
      onBegin: () => this.compare.leave() });
    this.family = new Family({ origin: this.part("origin"), tree: this.part("family"), server, open, compare: (artwork) => this.#compare(artwork) });
    this.compare = new Compare(this.film);
    this.layers = new Layers({ film: this.film, place: this.part("heat"), prompt: this.part("prompt") });
    this.ensemble = new Ensemble(this.film, { server, onEnter: () => this.compare.leave(), open: (id) => this.#alone(id) });
    this.pulls = new Pulls(this.part("mix"), this.layers);
    this.takeaway = new Takeaway(this.part("takeaway"), () => (this.fade.valueAsNumber > 0.5 ? "latents" : "denoised"));
    this.live = new Live({
      onNews: (job, tiles) => this.#grow(job, tiles),
      onReady: (job) => this.#grown(job),
      onEnd: (job, sentence) => this.#stopped(job, sentence),
      onOver: (jobs) => this.#over(jobs),
    });
    this.pin = el("span.timeline-pin");
    this.keeping = new Keeping({ gone: this.part("gone"), usage: this.part("usage"), pin: this.pin, server,
      repaint: (group) => this.watch(group, null) });
    this.film.onLayerKey = () => this.#layer(this.film.noise > 0.5 ? 0 : 1);
    this.#controls();
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
    const nothingYet = !this.artwork && !this.opening && !this.live.isOn;
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
    this.ensemble.leave();
    this.artwork = null;
    this.told = null;
    this.film.clear();
    this.film.noise = noise;
    this.compare.leave();
    this.branching.shown(null);
    this.curves.show(null);
    this.layers.show(null);
    this.pulls.show(null);
    this.family.clear();
    this.keeping.shown(null);
  }

  #thumbnail(artwork) {
    const image = el("img", { src: `/artworks/${artwork.id}.png`, alt: artwork.recipe.prompt || "A picture without a prompt", loading: "lazy" });
    return el("button.thumb", { type: "button", "data-id": artwork.id, onclick: () => this.open(artwork.id) }, image);
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
    this.largestPull = largestPull(job.told);
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
    try {
      await this.compare.enter(this.told, artwork);
    } catch (error) {
      say(error.message);
    }
  }

  #title() {
    const { recipe } = this.told;
    this.part("recipe").textContent =
      `${recipe.sampler} · ${recipe.num_inference_steps} steps · guidance ${recipe.guidance_scale} · seed ${recipe.seed}`;
    this.largestPull = largestPull(this.told);
  }

  // The quiet read-out: what this step is, in numbers and in words.
  #read() {
    if (!this.told) return;
    const step = this.told.steps[this.film.stop];
    this.curves.move(this.film.stop);
    this.layers.move(this.film.stop);
    this.pulls.move(this.film.stop);
    this.branching.moved();
    const set = (name, value, words) => {
      this.part(`${name}-value`).textContent = value;
      this.part(`${name}-words`).textContent = words;
    };
    const finished = this.film.stop >= this.told.count;
    this.part("place").textContent = finished ? "The finished picture" : `Step ${this.film.stop + 1} of ${this.told.count}`;
    if (!step && !finished) {
      for (const name of ["noise", "sigma", "timestep", "pull"]) set(name, "–", "Its numbers are on their way.");
      this.part("pull-bar").value = 0;
      this.part("noise-bar").value = 1;
      return;
    }
    if (!step) {
      set("noise", "0 %", "Nothing is left to take away.");
      set("sigma", "0", "No grain: this is the picture as it was kept.");
      set("timestep", "–", "The walk from noise is over.");
      set("pull", "–", "The prompt has said what it had to say.");
      this.part("pull-bar").value = 0;
      this.part("noise-bar").value = 0;
      return;
    }
    const share = shareOfNoise(step.sigma);
    set("noise", `${percent(share)} %`, noiseWords(share));
    this.part("noise-bar").value = share;
    set("sigma", short(step.sigma), "How strong the grain is, measured against the picture under it.");
    set("timestep", short(step.timestep), "Where this is on the model's own scale: high is noise, 0 is a picture.");
    set("pull", short(step.guidance_norm), pullWords(step.guidance_norm / this.largestPull));
    this.part("pull-bar").value = step.guidance_norm / this.largestPull;
  }

  #controls() {
    const { film } = this;
    this.play = button("Play", "play", () => film.toggle(), { bare: true, className: "quiet.play" });
    const loop = button("Loop", "loop", () => {
      film.loop = !film.loop;
      loop.setAttribute("aria-pressed", String(film.loop));
    }, { bare: true });
    loop.setAttribute("aria-pressed", "false");
    const speed = el("select.speed", { "aria-label": "Speed" });
    for (const [value, name] of [[0.5, "½×"], [1, "1×"], [2, "2×"], [4, "4×"]]) {
      speed.append(el("option", { value, selected: value === 1 }, name));
    }
    speed.addEventListener("change", () => { film.speed = Number(speed.value); });
    this.part("transport").replaceChildren(this.play, speed, loop, this.curves.button(this.root), this.ensemble.button(), this.pin, this.branching.button());
    this.root.querySelectorAll("[data-layer]").forEach((choice) => {
      choice.addEventListener("click", () => this.#layer(choice.dataset.layer === "latents" ? 1 : 0));
    });
    this.fade = this.part("fade");
    this.fade.addEventListener("input", () => {
      film.fadeTo(Number(this.fade.value), { atOnce: true });
      this.#showLayer(film.noise);
    });
    this.#showLayer(0);
  }

  #layer(noise) {
    this.film.fadeTo(noise);
    this.fade.value = String(noise);
    this.#showLayer(noise);
  }

  #showLayer(noise) {
    this.root.querySelectorAll("[data-layer]").forEach((choice) => {
      choice.setAttribute("aria-pressed", String((choice.dataset.layer === "latents") === noise > 0.5));
    });
  }

  #showPlaying(playing) {
    const fresh = button(playing ? "Pause" : "Play", playing ? "pause" : "play", null, { bare: true });
    this.play.replaceChildren(...fresh.childNodes);
    this.play.setAttribute("aria-label", fresh.title);
    this.play.title = fresh.title;
  }
}

function wordsFor(job) {
  if (job.state === "queued") {
    return job.ahead > 0 ? `In line: ${job.ahead} ${job.ahead === 1 ? "picture" : "pictures"} before this one` : "Next in line";
  }
  if (job.state === "running") return job.steps ? `Being painted, step ${job.step} of ${job.steps}` : "Beginning…";
  return "Painted; what is there is being drawn…";
}

function largestPull({ steps }) {
  return Math.max(...steps.map((step) => step.guidance_norm ?? 0), 1e-9);
}

// sigma is noise over signal, so this is the part of the variance that is noise.
function shareOfNoise(sigma) {
  return Number.isFinite(sigma) ? sigma ** 2 / (1 + sigma ** 2) : 1;
}

function percent(share) {
  const value = 100 * share;
  return value > 99 || value < 1 ? value.toFixed(1) : value.toFixed(0);
}

function short(value) {
  if (!Number.isFinite(value)) return "–";
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function noiseWords(share) {
  if (share > 0.97) return "Almost pure grain; only the broadest masses are being decided.";
  if (share > 0.7) return "Mostly grain. Composition and light are taking their places.";
  if (share > 0.3) return "Half grain, half picture. Forms and colours settle.";
  if (share > 0.04) return "The grain thins out; edges and materials appear.";
  return "A last veil of grain. Only fine detail still changes.";
}

function pullWords(share) {
  if (share > 0.75) return "How hard the prompt pulls at this step: as hard as anywhere in this run.";
  if (share > 0.4) return "How hard the prompt pulls at this step: firmly.";
  return "How hard the prompt pulls at this step: lightly, the picture goes its own way.";
}
