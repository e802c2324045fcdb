// The denoising tab: one picture's whole run, in the artist's hand.

import { button, el, onShown } from "./dom.js";
import { goTo, hear, say } from "./desk.js";
import { Branching } from "./branch.js";
import { Compare } from "./compare.js";
import { Curves } from "./curves.js";
import { Family } from "./family.js";
import { Film } from "./film.js";
import { Layers } from "./layers.js";
import { Takeaway } from "./takeaway.js";
import { closeReel, fetchReel, threadReel } from "./reel.js";

export function mount({ element, props, server }) {
  const desk = new Timeline(element.querySelector(".timeline"), props.told, server);
  hear("timeline", (artwork) => desk.open(artwork));
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
    this.takeaway = new Takeaway(this.part("takeaway"), () => (this.fade.valueAsNumber > 0.5 ? "latents" : "denoised"));
    this.film.onLayerKey = () => this.#layer(this.film.noise > 0.5 ? 0 : 1);
    this.#controls();
    this.part("paint").addEventListener("click", () => goTo("prompt-to-image"));
    root.dataset.state = "empty";
  }

  async shown() {
    if (!this.stale) return;
    this.stale = false;
    const { artworks } = await this.server.with_timeline({});
    this.part("choose").hidden = artworks.length === 0;
    this.part("others").replaceChildren(...artworks.map((artwork) => this.#thumbnail(artwork)));
    if (!this.artwork && !this.opening && artworks.length > 0) this.open(artworks[0].id);
    else this.#mark();
  }

  forget(artwork) {
    this.stale = true;
    if (artwork !== this.artwork) return;
    this.artwork = null;
    this.told = null;
    this.film.clear();
    this.compare.leave();
    this.branching.shown(null);
    this.curves.show(null);
    this.layers.show(null);
    this.family.clear();
    this.root.dataset.state = "empty";
  }

  #thumbnail(artwork) {
    const image = el("img", { src: `/artworks/${artwork.id}.png`, alt: artwork.recipe.prompt || "A picture without a prompt", loading: "lazy" });
    return el("button.thumb", { type: "button", "data-id": artwork.id, onclick: () => this.open(artwork.id) }, image);
  }

  #mark() {
    for (const thumb of this.part("others").children) {
      thumb.setAttribute("aria-pressed", String(thumb.dataset.id === this.artwork));
    }
  }

  // At the finished picture, or at another stop of its timeline.
  async open(artwork, stop = Infinity) {
    this.opening = artwork;
    let reel;
    try {
      reel = await fetchReel(artwork);
    } catch (error) {
      say(error.message);
      return;
    }
    if (this.opening !== artwork) {
      closeReel(reel);
      return;
    }
    this.opening = null;
    this.artwork = artwork;
    this.told = reel.told;
    this.takeaway.offer(artwork);
    this.root.dataset.state = "open";
    const { film } = this;
    const { noise } = film;
    film.clear();
    this.compare.leave();
    this.part("screen").style.setProperty("--aspect", reel.told.recipe.width / reel.told.recipe.height);
    film.noise = noise;
    film.name(reel.told.recipe.prompt);
    this.#title();
    this.curves.show(reel.told);
    this.layers.show(reel.told);
    threadReel(film, reel);
    film.go(stop);
    this.branching.shown(reel.told);
    this.#read();
    this.#mark();
    this.family.show(artwork);
    if (this.stale) this.shown();
  }

  async #compare(artwork) {
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
    this.largestPull = Math.max(...this.told.steps.map((step) => step.guidance_norm ?? 0), 1e-9);
  }

  // The quiet read-out: what this step is, in numbers and in words.
  #read() {
    if (!this.told) return;
    const step = this.told.steps[this.film.stop];
    this.curves.move(this.film.stop);
    this.layers.move(this.film.stop);
    this.branching.moved();
    const set = (name, value, words) => {
      this.part(`${name}-value`).textContent = value;
      this.part(`${name}-words`).textContent = words;
    };
    this.part("place").textContent = step ? `Step ${this.film.stop + 1} of ${this.told.count}` : "The finished picture";
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
    this.part("transport").replaceChildren(this.play, speed, loop, this.curves.button(this.root), this.branching.button());
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
