// The fills that are painted together, small, to choose among while they come.

import { el } from "./dom.js";

export class Thumbs {
  // `choose(job)` hears which one is pressed.
  constructor(choose) {
    this.choose = choose;
    this.element = el("div.inpaint-fills", { role: "group", "aria-label": "Fills" });
    this.buttons = new Map();
  }

  // Each keeps its button while its picture changes: a click lasts longer than a step.
  show(jobs, shown) {
    this.element.hidden = jobs.length < 2;
    const before = this.buttons;
    this.buttons = new Map(jobs.map((job) => [job.id, before.get(job.id) ?? this.#button(job)]));
    for (const job of jobs) {
      const thumb = this.buttons.get(job.id);
      thumb.setAttribute("aria-pressed", String(job.id === shown?.id));
      const image = thumb.firstElementChild;
      image.hidden = !job.preview;
      if (job.preview && image.getAttribute("src") !== job.preview) image.src = job.preview;
    }
    if ([...this.buttons.keys()].join() !== [...before.keys()].join()) this.element.replaceChildren(...this.buttons.values());
  }

  #button(job) {
    return el("button.inpaint-thumb", { type: "button", "aria-label": `Fill ${job.index + 1}`, onclick: () => this.choose(job) }, el("img", { alt: "" }));
  }
}
