// A run that is still being painted, step by step as its frames come from the job's stream.

import { blobOf, parseJSON } from "./dom.js";
import { wholeTile } from "./film.js";

const ENDED = ["failed", "cancelled"];

// The group that an artist has in the works, or null.
export async function activeGroup() {
  const answer = await fetch("/jobs/active");
  return answer.ok ? (await answer.json()).group : null;
}

export class Live {
  // `onNews(job, tiles)` hears of everything that came: `job.told` is the run so far as `GET /timelines/{id}` tells
  // a whole one, `tiles` the new steps as [step, tile]. `onReady(job)`: the timeline can be opened.
  // `onEnd(job, sentence)`: it never will be. `onOver(jobs)`: nothing more will come of any of them.
  constructor({ onNews, onReady, onEnd, onOver }) {
    Object.assign(this, { onNews, onReady, onEnd, onOver });
    this.jobs = new Map();
  }

  get isOn() {
    return Boolean(this.source);
  }

  // What is only being drawn is painted already, and cannot be cancelled any more.
  get isPainting() {
    return [...this.jobs.values()].some(({ state }) => state === "queued" || state === "running");
  }

  // Follows a group of jobs until each of them has ended one way or the other.
  follow(group) {
    this.leave();
    this.group = group;
    const source = new EventSource(`/jobs/${encodeURIComponent(group)}/stream`);
    this.source = source;
    // One after the other: a preview is decoded before the next news is heard.
    let heard = Promise.resolve();
    source.addEventListener("job", (event) => {
      heard = heard.then(() => this.#hear(parseJSON(event.data), source));
    });
    source.addEventListener("end", () => {
      source.close();
      heard = heard.then(() => this.source === source && this.#finish());
    });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED && this.source === source) this.#finish();
    };
  }

  leave() {
    this.source?.close();
    this.source = null;
    this.group = null;
    this.jobs.clear();
  }

  async #hear(news, source) {
    if (this.source !== source) return;
    const job = this.jobs.get(news.id) ?? { seen: new Set(), steps_told: [] };
    const { previews, numbers, ...rest } = news;
    Object.assign(job, rest);
    this.jobs.set(job.id, job);
    for (const step of numbers) job.steps_told[step.step] = step;
    const fresh = previews.filter(([step]) => !job.seen.has(step));
    const tiles = await Promise.all(fresh.map(async ([step, url]) => [step, wholeTile(await createImageBitmap(blobOf(url)))]));
    if (this.source !== source) {
      tiles.forEach(([, tile]) => tile.bitmap.close());
      return;
    }
    fresh.forEach(([step]) => job.seen.add(step));
    job.told = { artwork: null, live: true, recipe: job.recipe, steps: job.steps_told, count: job.steps || job.recipe.num_inference_steps };
    await this.onNews(job, tiles);
    if (this.source !== source || job.over || !job.settled) return;
    job.over = true;
    if (job.timeline_ready) await this.onReady(job);
    else await this.onEnd(job, sentenceFor(job));
  }

  // The stream is over. What has not been told to be over never will be.
  async #finish() {
    const jobs = [...this.jobs.values()];
    this.leave();
    for (const job of jobs.filter((one) => !one.over)) {
      await this.onEnd(job, "This run is not followed any more; look for it in the gallery.");
    }
    this.onOver(jobs);
  }
}

function sentenceFor(job) {
  if (job.state === "cancelled") return "Cancelled.";
  if (ENDED.includes(job.state)) return job.sentence || "This picture could not be painted.";
  return job.notes.at(-1) ?? "The picture is painted, but its timeline could not be drawn.";
}

// How far one of them is.
export function wordsFor(job) {
  if (job.state === "queued") {
    return job.ahead > 0 ? `In line: ${job.ahead} ${job.ahead === 1 ? "picture" : "pictures"} before this one` : "Next in line";
  }
  if (job.state === "running") return job.steps ? `Being painted, step ${job.step} of ${job.steps}` : "Beginning…";
  return "Painted; what is there is being drawn…";
}
