// An artist's own mixes: kept by name, one touch brings them back.

import { button, el, onShown } from "./dom.js";
import { say } from "./desk.js";
import { signed } from "./welcome.js";

export class Presets {
  // `load(mix)` puts a mix on the desk, `picture()` tells the artwork that shows it, `complain(answer)` a refusal.
  constructor(server, mix, { load, picture, complain }) {
    Object.assign(this, { server, mix, load, picture, complain });
    this.list = el("div.presets-list");
    this.root = el("section.presets", { "aria-label": "Your mixes", hidden: true }, el("h3", {}, "Your mixes"), this.list);
    this.name = el("input", { type: "text", maxlength: 80, placeholder: "A name for this mix", "aria-label": "A name for this mix" });
    const save = el("button.quiet", { type: "button", onclick: () => this.#save() }, "Keep");
    this.keep = el("div.presets-keep", {}, this.name, save);
    this.name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      this.#save();
    });
    onShown(this.keep, () => this.refresh());
  }

  async refresh() {
    this.#show((await this.server.list_presets({})).presets);
  }

  async #save() {
    await signed();
    const answer = await this.server.save_preset({ name: this.name.value, mix: this.mix.told, artwork: this.picture() });
    this.complain(answer);
    if (answer.sentence) return;
    say(`“${this.name.value.trim()}” is kept among your mixes.`);
    this.name.value = "";
    this.#show(answer.presets);
  }

  #show(presets) {
    this.root.hidden = presets.length === 0;
    this.list.replaceChildren(...presets.map((preset) => this.#chip(preset)));
  }

  #chip({ id, name, mix, artwork }) {
    const { loras = [] } = mix;
    const look = artwork
      ? el("img", { src: `/artworks/${artwork}.png`, alt: "", loading: "lazy" })
      : el("i", { "aria-hidden": "true" }, String(mix.styles.length + loras.length));
    const words = [...mix.styles, ...loras].map((one) => one.name).join(" + ");
    return el("div.preset", {},
      el("button.preset-load", { type: "button", title: words, onclick: () => this.load(mix) }, look, el("span", {}, name)),
      button(`Delete ${name}`, "close", async () => {
        const answer = await this.server.delete_preset({ id });
        if (answer.sentence) return say(answer.sentence);
        this.#show(answer.presets);
      }, { bare: true }));
  }
}
