// Choosing what to compare with: the next of the timelines that is clicked is laid beside the one that is shown.

import { button } from "./dom.js";

export class Choosing {
  // `root` is the timeline's element, `title` the heading over the timelines to choose from.
  constructor(root, title, compare) {
    Object.assign(this, { root, title, usual: title.textContent });
    this.action = button("Compare with another timeline", "wipe", () => {
      const { isOpen } = compare;
      compare.leave();
      this.#turn(!isOpen && !this.isOn);
    }, { bare: true, className: "quiet.compare-begin" });
    this.end();
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || !this.isOn) return;
      event.preventDefault();
      this.end();
    });
  }

  get isOn() {
    return this.root.hasAttribute("data-choosing");
  }

  end() {
    this.#turn(false);
  }

  #turn(on) {
    this.root.toggleAttribute("data-choosing", on);
    this.title.textContent = on ? "Compare it with…" : this.usual;
    this.action.setAttribute("aria-pressed", String(on));
    if (on) this.title.scrollIntoView({ block: "nearest" });
  }
}
