// The fills that are being painted, or were: followed by their group, also after a reload.

import { parseJSON } from "./dom.js";
import { tell } from "./desk.js";

const ENDED = ["done", "failed", "cancelled"];

export class Fills {
  // `previewed(job)` and `filled(job)` hear of the chosen one, `heard()` of all, `lost()` of a group that is gone.
  constructor({ previewed, filled, heard, lost }) {
    Object.assign(this, { previewed, filled, heard, lost });
    this.jobs = new Map();
    this.chosen = null;
  }

  // All of them, in their order.
  get all() {
    return [...this.jobs.values()].sort((a, b) => a.index - b.index);
  }

  get job() {
    return this.jobs.get(this.chosen);
  }

  get running() {
    return this.all.some((job) => !ENDED.includes(job.state));
  }

  follow(group) {
    this.leave();
    const source = new EventSource(`/jobs/${encodeURIComponent(group)}/stream`);
    this.source = source;
    source.addEventListener("job", (event) => this.#hear(parseJSON(event.data)));
    source.addEventListener("end", () => source.close());
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED && this.jobs.size === 0) this.lost();
    };
  }

  leave() {
    this.source?.close();
    this.jobs.clear();
    this.chosen = null;
  }

  choose(job) {
    this.chosen = job.id;
    if (job.artwork) this.filled(job);
    else if (job.preview) this.previewed(job);
    this.heard();
  }

  #hear(news) {
    const job = this.jobs.get(news.id) ?? {};
    const wasReady = job.timeline_ready;
    const last = news.previews.at(-1);
    Object.assign(job, news);
    if (last) job.preview = last[1];
    this.jobs.set(job.id, job);
    this.chosen ??= job.id;
    if (last && job.id === this.chosen && job.state !== "done") this.previewed(job);
    if (job.timeline_ready && !wasReady) tell("painted", job);
    if (job.artwork && job.id === this.chosen) this.filled(job);
    this.heard();
  }
}

export function wordsFor(job) {
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
