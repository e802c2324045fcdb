// The quiet read-out: what this step is, in numbers and in words.

import { write } from "./dom.js";

export class Readout {
  // `root` is the timeline's element.
  constructor(root) {
    const names = ["noise", "sigma", "timestep", "pull"].flatMap((name) => [`${name}-value`, `${name}-words`]);
    this.parts = Object.fromEntries([...names, "noise-bar", "pull-bar", "place"].map((name) => [name, root.querySelector(`.timeline-${name}`)]));
  }

  // `told` as `GET /timelines/{id}` tells a timeline; `way` is "there" while a picture dissolves and "back" otherwise.
  show(told, stop, way) {
    const step = told.steps[stop];
    const finished = stop >= told.count;
    const whole = way === "there" ? "The picture itself" : "The finished picture";
    write(this.parts.place, finished ? whole : `Step ${stop + 1} of ${told.count}`);
    if (!step && !finished) {
      for (const name of ["noise", "sigma", "timestep", "pull"]) this.#set(name, "–", "Its numbers are on their way.");
      this.#fill(1, 0);
      return;
    }
    if (!step) {
      this.#set("noise", "0 %", way === "there" ? "Nothing has been mixed in." : "Nothing is left to take away.");
      this.#set("sigma", "0", "No grain: this is the picture as it was kept.");
      this.#set("timestep", "–", way === "there" ? "The walk into noise has not begun." : "The walk from noise is over.");
      this.#set("pull", "–", "The prompt has said what it had to say.");
      this.#fill(0, 0);
      return;
    }
    const share = shareOfNoise(step.sigma);
    const pull = (step.guidance_norm ?? 0) / Math.max(...told.steps.map((one) => one.guidance_norm ?? 0), 1e-9);
    this.#set("noise", `${percent(share)} %`, (way === "there" ? lossWords : noiseWords)(share));
    this.#set("sigma", short(step.sigma), "How strong the grain is, measured against the picture under it.");
    this.#set("timestep", short(step.timestep), "Where this is on the model's own scale: high is noise, 0 is a picture.");
    this.#set("pull", short(step.guidance_norm), pullWords(pull));
    this.#fill(share, pull);
  }

  #set(name, value, words) {
    write(this.parts[`${name}-value`], value);
    write(this.parts[`${name}-words`], words);
  }

  #fill(noise, pull) {
    this.parts["noise-bar"].value = noise;
    this.parts["pull-bar"].value = pull;
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

function lossWords(share) {
  if (share > 0.97) return "Hardly a trace of the picture is left. The model begins from here.";
  if (share > 0.7) return "Only its broadest masses still shine through.";
  if (share > 0.3) return "Half picture, half grain. Its drawing is going.";
  if (share > 0.04) return "Edges and materials go first.";
  return "A first veil of grain. Only fine detail is lost.";
}
