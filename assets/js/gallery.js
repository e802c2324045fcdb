// The gallery: the artist's own pictures, and the wall of what everyone chose to hang.

import { button, el, icon, onShown } from "./dom.js";
import { goTo, hear, openTimeline, repaint, say, tell, useSettings } from "./desk.js";
import { pinButton, tellUsage } from "./keeping.js";
import { restyle } from "./restyle.js";
import { downloadLink, hangButton } from "./wall.js";

const EMPTY = {
  own: ["Nothing here yet.", "Every picture you paint is kept here, with all that is needed to paint it again."],
  wall: ["The wall is still bare.", "Hang one of your pictures, and every artist of this studio sees it here."],
};

export function mount({ element, server }) {
  const gallery = new Gallery(element.querySelector(".gallery"), server);
  hear("painted", () => { gallery.stale = true; });
  hear("pinned", () => { gallery.stale = true; });
  onShown(gallery.root, () => gallery.stale && gallery.turnTo(gallery.room));
}

class Gallery {
  constructor(root, server) {
    this.root = root;
    this.server = server;
    this.room = "own";
    this.stale = true;
    this.hall = root.querySelector(".gallery-hall");
    this.more = root.querySelector(".gallery-more");
    this.more.addEventListener("click", () => this.#load(this.last));
    this.doors = [...root.querySelectorAll("[data-room]")];
    for (const door of this.doors) door.addEventListener("click", () => this.turnTo(door.dataset.room));
  }

  async turnTo(room) {
    this.room = room;
    this.stale = false;
    this.shown = [];
    for (const door of this.doors) door.setAttribute("aria-pressed", String(door.dataset.room === room));
    tellUsage(this.root.querySelector(".gallery-usage"), this.server);
    await this.#load(null);
  }

  async #load(before) {
    const { room } = this;
    const { artworks, more } = await this.server.list_pictures({ room, before });
    if (room !== this.room) return;
    if (before === null) this.hall.replaceChildren();
    this.shown.push(...artworks);
    this.last = artworks.at(-1)?.id ?? null;
    this.more.hidden = !more;
    this.hall.append(...artworks.map((artwork) => this.#frame(artwork)));
    if (this.shown.length === 0) this.hall.replaceChildren(this.#invitation(room));
  }

  #invitation(room) {
    const [title, text] = EMPTY[room];
    return el("div.gallery-empty", {}, el("h2", {}, title), el("p", {}, text),
      el("button.accent", { type: "button", onclick: () => goTo("prompt-to-image") }, "Paint a picture"));
  }

  #frame(artwork) {
    const { recipe } = artwork;
    const words = recipe.prompt || "Without a prompt";
    const by = this.room === "wall" ? artwork.artist_name : artwork.hung ? "on the wall" : null;
    return el(
      "button.frame",
      {
        type: "button",
        style: `--aspect: ${recipe.width / recipe.height}`,
        "aria-label": `${words}, by ${artwork.artist_name}`,
        "data-id": artwork.id,
        onclick: () => this.#open(artwork),
      },
      el("img", { src: `/artworks/${artwork.id}.png`, alt: "", loading: "lazy", width: recipe.width, height: recipe.height }),
      el("span.frame-words", {}, el("em", {}, words), by ? el("span", {}, by) : null),
      artwork.mine && artwork.pinned ? el("span.frame-pinned", { title: "Its timeline is pinned" }, icon("pin")) : null,
    );
  }

  #open(artwork) {
    const dialog = el("dialog.detail", { autofocus: true, tabindex: "-1", "aria-label": artwork.recipe.prompt || "A picture" });
    dialog.addEventListener("close", () => {
      dialog.remove();
      this.hall.querySelector(`[data-id="${artwork.id}"]`)?.focus({ preventScroll: true });
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const next = way && this.shown[this.shown.findIndex((one) => one.id === artwork.id) + way];
      if (!next) return;
      artwork = next;
      this.#fill(dialog, artwork);
    });
    this.#fill(dialog, artwork);
    document.body.append(dialog);
    dialog.showModal();
  }

  #fill(dialog, artwork) {
    const { recipe } = artwork;
    const facts = el("dl");
    const rows = [
      ["Styles", recipe.mix ? recipe.mix.styles.map(({ name }) => name).join(" + ") : ""],
      ["LoRAs", (recipe.mix?.loras ?? []).map(({ name, weight }) => `${name} ${weight}`).join(", ")],
      ["IP-Adapters", [...new Set((recipe.mix?.references ?? []).flatMap(({ ip_adapter: adapter }) => adapter?.name ?? []))].join(", ")],
      ["Negative prompt", recipe.negative_prompt],
      ["Seed", recipe.seed],
      ["Sampler", recipe.sampler],
      ["Steps", recipe.num_inference_steps],
      ["Guidance", recipe.guidance_scale],
      ["Size", `${recipe.width} × ${recipe.height}`],
      ["Model", recipe.model],
    ];
    for (const [name, value] of rows) if (value !== "") facts.append(el("dt", {}, name), el("dd", {}, String(value)));
    const painted = new Date(artwork.created);
    dialog.replaceChildren(
      el("div.detail-picture", {},
        el("img", { src: `/artworks/${artwork.id}.png`, alt: recipe.prompt || "A picture without a prompt",
          style: `--aspect: ${recipe.width / recipe.height}` })),
      el("div.detail-words", {},
        el("h2", {}, recipe.prompt || "Without a prompt"),
        el("p.detail-by", {}, `${artwork.artist_name}, `, el("time", { datetime: artwork.created },
          painted.toLocaleString([], { dateStyle: "long", timeStyle: "short" }))),
        facts,
        el("div.detail-actions", {}, ...this.#actions(dialog, artwork))),
      button("Close", "close", () => dialog.close(), { bare: true, className: "quiet.detail-close" }),
    );
  }

  #actions(dialog, artwork) {
    const leave = (then) => () => {
      dialog.close();
      then();
    };
    const actions = [];
    const toTimeline = artwork.has_timeline ? "Open timeline" : artwork.mine ? "Bring back its timeline" : null;
    if (toTimeline) actions.push(button(toTimeline, "film", leave(() => openTimeline(artwork.id))));
    actions.push(button("Repaint a part", "strokes", leave(() => repaint(artwork.id))));
    actions.push(button("Use these settings", "sliders", leave(() => useSettings(artwork.recipe))), downloadLink(artwork.id));
    actions.push(button("Restyle", "strokes", leave(() => restyle(artwork.id))));
    if (artwork.mine) {
      actions.push(hangButton(this.server, artwork.id, artwork.hung, (hung) => {
        artwork.hung = hung;
        this.#fill(dialog, artwork);
        this.turnTo(this.room);
      }));
      if (artwork.has_timeline) {
        actions.push(pinButton(this.server, artwork, (pinned) => {
          artwork.pinned = pinned;
          this.#fill(dialog, artwork);
          this.turnTo(this.room);
        }));
      }
      actions.push(this.#bin(dialog, artwork));
    }
    return actions;
  }

  // Deleting asks once more, in the button itself.
  #bin(dialog, artwork) {
    const bin = button("Delete", "bin", async () => {
      if (!bin.classList.contains("sure")) {
        bin.classList.add("sure");
        bin.querySelector("span").textContent = "Delete for good?";
        return;
      }
      const answer = await this.server.delete({ id: artwork.id });
      if (answer.sentence) return say(answer.sentence);
      dialog.close();
      tell("forgotten", artwork.id);
      say("Deleted.");
      await this.turnTo(this.room);
    });
    bin.addEventListener("blur", () => {
      bin.classList.remove("sure");
      bin.querySelector("span").textContent = "Delete";
    });
    return bin;
  }
}
