// Keeping timelines: the pin that holds one when room is made, what they take, and the notice when one is gone.

import { button, el } from "./dom.js";
import { hear, say, tell } from "./desk.js";

// A button that pins the timeline of a picture or lets go of it; `then` hears whether it is pinned now.
export function pinButton(server, { id, pinned }, then, look = {}) {
  const pin = button(pinned ? "Unpin timeline" : "Pin timeline", "pin", async () => {
    const answer = await server.pin({ id, pinned: !pinned });
    if (answer.sentence) {
      say(answer.sentence);
      return;
    }
    say(pinned ? "Unpinned: it may make room for newer ones." : "Pinned: this timeline stays when room is made.");
    tell("pinned", { id, pinned: !pinned });
    then(!pinned);
  }, look);
  pin.classList.add("pin");
  pin.setAttribute("aria-pressed", String(pinned));
  if (look.bare) pin.title = `${pin.title} (kept when room is made for newer ones)`;
  return pin;
}

// Writes into `place` how much of her room an artist's timelines take.
export async function tellUsage(place, server) {
  const { timelines, pinned, used_bytes: used, budget_bytes: budget } = await server.usage({});
  place.hidden = !timelines;
  if (place.hidden) return;
  const held = pinned ? `, ${pinned} pinned` : "";
  place.title = "When the room is full, your oldest timelines that are not pinned are dropped. Pictures always stay.";
  place.replaceChildren(
    el("span", {}, `${timelines} ${timelines === 1 ? "timeline" : "timelines"}${held}`),
    el("span", {}, `${sizeOf(used)} of ${sizeOf(budget)}`),
    el("meter", { min: 0, max: Math.max(1, budget), value: Math.min(used, budget), "aria-label": "Room that your timelines take" }),
  );
}

export class Keeping {
  // `gone`, `usage` and `pin` are empty elements to build in; `repaint(group)` follows the painting of a timeline.
  constructor({ gone, usage, pin, server, repaint }) {
    Object.assign(this, { gone, usage, pin, server, repaint });
    hear("pinned", ({ id, pinned }) => {
      this.count();
      if (this.told?.artwork === id) this.#offerPin({ ...this.told, pinned });
    });
  }

  count() {
    tellUsage(this.usage, this.server);
  }

  // Another timeline is on the easel, as `GET /timelines/{id}` tells it, or none. `gone` says what is missing of it.
  shown(told) {
    this.told = told;
    this.#offerPin(told);
    this.gone.hidden = !told?.gone?.length;
    if (this.gone.hidden) return;
    const words = el("p", {}, told.gone.join(" "));
    const again = told.mine ? button("Paint it again", "reuse", () => this.#repaint(told.artwork), { className: "quiet.gone-repaint" }) : null;
    if (again) again.title = "From its recipe, step by step, to the same pixels";
    this.gone.replaceChildren(words, ...(again ? [again] : []));
  }

  #offerPin(told) {
    this.told = told;
    const pins = told?.mine && told.count > 0;
    this.pin.replaceChildren(...(pins ? [pinButton(this.server, { id: told.artwork, pinned: told.pinned }, () => {}, { bare: true })] : []));
  }

  async #repaint(artwork) {
    const answer = await this.server.repaint({ id: artwork });
    if (answer.sentence) say(answer.sentence);
    else this.repaint(answer.group);
  }
}

function sizeOf(bytes) {
  for (const [unit, factor] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes >= factor) return `${Number((bytes / factor).toPrecision(3))} ${unit}`;
  }
  return `${bytes} bytes`;
}
