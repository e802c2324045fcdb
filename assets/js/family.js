// A picture's family: what it branched from and what branched from it, as a small tree.

import { button, el } from "./dom.js";

export class Family {
  // `origin` and `tree` are empty elements to build in; `open(artwork, stop)` shows a member at a stop,
  // `compare(artwork)` lays it beside the one that is shown.
  constructor({ origin, tree, server, open, compare }) {
    Object.assign(this, { origin, tree, server, open, compare });
    this.clear();
  }

  clear() {
    this.artwork = null;
    this.origin.hidden = true;
    this.tree.hidden = true;
  }

  async show(artwork) {
    this.artwork = artwork;
    const { members } = await this.server.family({ artwork });
    if (this.artwork !== artwork) return;
    const known = new Map(members.map((member) => [member.id, member]));
    this.#tellOrigin(known.get(artwork), known);
    this.#drawTree(members);
  }

  #tellOrigin(member, known) {
    this.origin.hidden = !member || member.step === null;
    if (this.origin.hidden) return;
    const parent = known.get(member.parent);
    const from = `A branch${member.recipe.branch.mask ? ", of a part only," : ""} from step ${member.step + 1} of `;
    this.origin.replaceChildren(from, parent
      ? el("button.family-parent", { type: "button", onclick: () => this.open(parent.id, member.step) }, titleOf(parent))
      : "a picture that is not here any more");
  }

  #drawTree(members) {
    this.tree.hidden = members.length < 2;
    if (this.tree.hidden) return;
    const children = new Map();
    for (const member of members) {
      children.set(member.ancestor, [...(children.get(member.ancestor) ?? []), member]);
    }
    const branch = (ancestor) => el("ul", {}, ...children.get(ancestor).map((member) =>
      el("li", {}, el("div.family-row", {}, this.#leaf(member), this.#comparison(member)), children.has(member.id) ? branch(member.id) : null)));
    this.tree.replaceChildren(el("h3", {}, "Family"), branch(null));
    this.tree.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  #comparison(member) {
    if (member.id === this.artwork || !member.has_timeline) return null;
    return button(`Compare with ${titleOf(member)}`, "wipe", () => this.compare(member.id), { bare: true });
  }

  #leaf(member) {
    const here = member.id === this.artwork;
    const left = member.step === null ? "the first of them" : `from step ${member.step + 1}${member.recipe.branch.mask ? ", a part only" : ""}`;
    return el("button.family-member", {
      type: "button",
      "data-id": member.id,
      "aria-current": here ? "true" : null,
      title: member.has_timeline ? titleOf(member) : "Its timeline is not there",
      onclick: () => this.open(member.id, member.step ?? undefined),
    },
    el("img", { src: `/artworks/${member.id}.png`, alt: "", loading: "lazy" }),
    el("span.family-words", {}, el("span.family-title", {}, titleOf(member)), el("span.family-left", {}, left)));
  }
}

function titleOf({ recipe }) {
  return recipe.prompt || "Without a prompt";
}
