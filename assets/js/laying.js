// Two ways of laying a fill into its picture: fitted in, with all else untouched, or just as the model painted it.

import { el, parseJSON } from "./dom.js";
import { tell } from "./desk.js";
import { Refusal } from "./sources.js";

const WAYS = [
  [true, "Fitted in", "Its border meets the picture, and all around it stays untouched"],
  [false, "As painted", "All that the model painted, also around the mask, without paste-back"],
];

export class Laying {
  // `lay(message)` asks the studio for the other way; `changed()` hears of another choice, `refused(error)` of none.
  constructor({ lay, changed, refused }) {
    Object.assign(this, { lay, changed, refused });
    this.buttons = WAYS.map(([fitted, name, title]) =>
      el("button.inpaint-tool", { type: "button", title, "data-fitted": String(fitted), onclick: () => this.#choose(fitted) }, name));
    this.element = el("div.inpaint-tools.inpaint-laying", { role: "group", "aria-label": "How the fill lies in the picture" }, ...this.buttons);
  }

  // The fill as it is to be seen now: the job itself, or the one that lays it the other way.
  of(job) {
    return job?.otherWay ? job.other : job;
  }

  show(job) {
    this.job = job;
    for (const one of this.buttons) one.setAttribute("aria-pressed", String(one.dataset.fitted === String(isFitted(this.of(job)))));
  }

  async #choose(fitted) {
    const { job } = this;
    if (job?.state !== "done" || this.element.ariaBusy === "true") return;
    const otherWay = fitted !== isFitted(job);
    this.element.ariaBusy = "true";
    try {
      if (otherWay) await (job.asked ??= this.#ask(job, fitted));
      job.otherWay = otherWay;
    } catch (error) {
      job.asked = null;
      this.refused(error);
    } finally {
      this.element.ariaBusy = "false";
    }
    this.changed(job);
  }

  async #ask(job, fitted) {
    const answer = await this.lay({ artwork: job.artwork, paste_back: fitted });
    if (answer.sentence) throw new Refusal(answer.sentence);
    job.other = { recipe: { source: { paste_back: fitted } }, artwork: answer.artwork, timeline_ready: answer.timeline_ready ?? false };
    if (answer.group) await painted(answer.group, job.other, () => this.changed(job));
  }
}

// Follows a group of one; resolves when its picture is there, and tells when its timeline is, too.
function painted(group, job, changed) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(`/jobs/${encodeURIComponent(group)}/stream`);
    source.addEventListener("job", (event) => {
      const wasReady = job.timeline_ready;
      Object.assign(job, parseJSON(event.data));
      if (job.artwork) resolve();
      else if (job.state === "failed" || job.state === "cancelled") reject(new Refusal(job.sentence || "It could not be painted."));
      if (!job.timeline_ready || wasReady) return;
      tell("painted", job);
      changed();
    });
    source.addEventListener("end", () => source.close());
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) reject(new Refusal("The studio does not answer. Try once more."));
    };
  });
}

function isFitted(job) {
  return job?.recipe?.source?.paste_back !== false;
}
