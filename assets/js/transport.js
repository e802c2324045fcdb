// Below the film: play, speed and loop at the left, and at the right the fade between its two layers.

import { button, el } from "./dom.js";

const NAMES = { denoised: "What it sees", latents: "What is there" };

export class Transport {
  // `root` is the timeline's element, `actions` are the buttons that stand behind play, speed and loop.
  constructor(root, film, actions) {
    this.film = film;
    this.choices = [...root.querySelectorAll("[data-layer]")];
    this.fade = root.querySelector(".timeline-fade");
    this.play = button("Play", "play", () => film.toggle(), { bare: true, className: "quiet.play" });
    root.querySelector(".timeline-transport").replaceChildren(this.play, this.#speed(), this.#loop(), ...actions);
    for (const choice of this.choices) choice.addEventListener("click", () => this.#layer(choice.dataset.layer === "latents" ? 1 : 0));
    this.fade.addEventListener("input", () => {
      film.fadeTo(Number(this.fade.value), { atOnce: true });
      this.#showLayer(film.noise);
    });
    film.onLayerKey = () => this.#layer(film.noise > 0.5 ? 0 : 1);
    this.#showLayer(0);
  }

  // The layer that is looked at, as timelines name it.
  get layer() {
    return this.fade.valueAsNumber > 0.5 ? "latents" : "denoised";
  }

  // What the two layers are called, where they are not those of a run.
  name(names = NAMES) {
    for (const choice of this.choices) choice.textContent = names[choice.dataset.layer];
  }

  playing(playing) {
    const fresh = button(playing ? "Pause" : "Play", playing ? "pause" : "play", null, { bare: true });
    this.play.replaceChildren(...fresh.childNodes);
    this.play.setAttribute("aria-label", fresh.title);
    this.play.title = fresh.title;
  }

  #loop() {
    const { film } = this;
    const loop = button("Loop", "loop", () => {
      film.loop = !film.loop;
      loop.setAttribute("aria-pressed", String(film.loop));
    }, { bare: true });
    loop.setAttribute("aria-pressed", "false");
    return loop;
  }

  #speed() {
    const speed = el("select.speed", { "aria-label": "Speed" });
    for (const [value, name] of [[0.5, "½×"], [1, "1×"], [2, "2×"], [4, "4×"]]) {
      speed.append(el("option", { value, selected: value === 1 }, name));
    }
    speed.addEventListener("change", () => { this.film.speed = Number(speed.value); });
    return speed;
  }

  #layer(noise) {
    this.film.fadeTo(noise);
    this.fade.value = String(noise);
    this.#showLayer(noise);
  }

  #showLayer(noise) {
    for (const choice of this.choices) {
      choice.setAttribute("aria-pressed", String((choice.dataset.layer === "latents") === noise > 0.5));
    }
  }
}
