// The forward process: a picture dissolves on the film, and from any step of it the model brings it back.

import { blobOf, button, el, parseJSON } from "./dom.js";
import { say, tell } from "./desk.js";
import { signed } from "./welcome.js";

export class Dissolving {
  // `root` is the timeline's element; `put(reel)` lays a dissolving picture on the film, `watch(group)` follows
  // what is painted of it, `leave()` goes back to the timeline that was shown, `shown()` tells its picture, `onBegin()` hears that a
  // picture is on its way.
  constructor({ root, film, server, put, watch, leave, shown, onBegin }) {
    Object.assign(this, { root, film, server, put, watch, leave, shown, onBegin });
    this.panel = root.querySelector(".timeline-forward");
    this.#invite(root.querySelector(".timeline-dissolve"));
    this.#build();
    this.#takeDrops(root);
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || !this.isOpen || root.offsetParent === null) return;
      if (document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.leave();
    });
  }

  get isOpen() {
    return this.root.dataset.mode === "forward";
  }

  // Also while a picture is on its way.
  get isOn() {
    return this.isOpen || "waiting" in this.root.dataset;
  }

  close() {
    this.asked = null;
    this.panel.hidden = true;
    delete this.root.dataset.mode;
    delete this.root.dataset.waiting;
  }

  // A dissolving picture has been put on the film.
  begin(told) {
    this.told = told;
    this.root.dataset.mode = "forward";
    this.panel.hidden = false;
    this.sentence.textContent = "";
    this.guidance.value = String(told.recipe.guidance_scale);
    this.panel.scrollIntoView({ block: "nearest" });
  }

  // The scrubber stands at another stop of the dissolving picture.
  moved() {
    if (!this.isOpen) return;
    const { count } = this.told;
    const step = Math.min(this.film.stop, count);
    this.go.disabled = step >= count;
    this.promise.textContent = step >= count
      ? "Go back into the grain, to the left: from there the model can bring it back."
      : `${wordsFor((count - step) / count)} The model takes over at step ${step + 1} of ${count}: ${Math.round((100 * (count - step)) / count)} % of the way is painted anew.`;
  }

  #invite(place) {
    const file = el("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "A picture to dissolve" });
    file.addEventListener("change", () => {
      if (file.files[0]) this.bring(file.files[0]);
      file.value = "";
    });
    const bring = el("button.dissolve-way", { type: "button", onclick: () => file.click() }, "any picture of yours");
    const own = el("button.dissolve-way.dissolve-own", { type: "button", onclick: () => this.#bringShown() }, "this one");
    place.replaceChildren("Watch a picture dissolve into grain, and let the model bring it back: ", own, el("span.dissolve-own", {}, ", or "), bring,
      " (drop it here).", file);
  }

  #build() {
    this.prompt = el("textarea", { rows: 3, id: "forward-prompt", name: "prompt", placeholder: "What the model should see in it" });
    this.guidance = el("input", { id: "forward-guidance_scale", name: "guidance_scale", inputmode: "decimal", autocomplete: "off" });
    this.promise = el("p.branch-promise", { "aria-live": "polite" });
    this.sentence = el("p.complaint", { role: "alert" });
    this.go = el("button.accent.branch-paint", { type: "submit" }, "Bring it back");
    const back = button("Close", "close", () => this.leave());
    back.append(el("kbd", {}, "Esc"));
    const field = (label, input) => el("div.branch-field", {}, el("label", { for: input.id }, label), input);
    this.panel.replaceChildren(
      el("h2", {}, "A picture dissolves"),
      el("p.timeline-explained", {}, "Press play. At every step a little grain is mixed in, until no picture is left. This way nothing needs to be known: it is ",
        el("em", {}, "so much picture, so much grain"), ", and that is how the model was taught. It was shown pictures dissolved this far, and had to guess what was there before."),
      el("p.timeline-explained", {}, el("em", {}, "In pixels"), " grain falls on the canvas like sand. ", el("em", {}, "In latents"),
        " it falls on the model’s own shorthand for the picture; that is where it really works, and so forms bend before they break."),
      this.promise,
      el("div.branch-fields", {}, field("Prompt", this.prompt), field("Guidance", this.guidance), this.sentence,
        el("div.branch-actions", {}, this.go, back)),
    );
    this.panel.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#bringBack();
    });
    this.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.#bringBack();
    });
  }

  #takeDrops(root) {
    const hasFiles = (event) => [...event.dataTransfer.types].includes("Files");
    root.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      root.dataset.drop = "";
    });
    root.addEventListener("dragleave", (event) => {
      if (!root.contains(event.relatedTarget)) delete root.dataset.drop;
    });
    root.addEventListener("drop", (event) => {
      delete root.dataset.drop;
      if (!hasFiles(event)) return;
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file) this.bring(file);
    });
  }

  #bringShown() {
    const { artwork, recipe } = this.shown();
    return this.#show(`/sources/from/${encodeURIComponent(artwork)}`, null, recipe.prompt);
  }

  // A picture's file, chosen or dropped.
  bring(file) {
    return this.#show("/sources", { headers: { "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream" }, body: file }, "");
  }

  async #show(address, sent, prompt) {
    const asked = (this.asked = {});
    this.onBegin();
    this.root.dataset.waiting = "";
    say("Grain is being mixed in…");
    try {
      await signed();
      const { source } = await answered(await fetch(address, { method: "POST", ...sent }));
      const seed = crypto.getRandomValues(new Uint32Array(1))[0];
      const told = await answered(await fetch(`/sources/${source}/dissolving?seed=${seed}`));
      const [denoised, latents, picture] = await Promise.all(
        [told.layers.denoised, told.layers.latents, told.picture].map((url) => createImageBitmap(blobOf(url))));
      if (this.asked !== asked) return [denoised, latents, picture].forEach((bitmap) => bitmap.close());
      this.put({ told, denoised, latents, picture });
      this.source = source;
      this.prompt.value = prompt;
    } catch (error) {
      if (this.asked === asked) say(error.message);
    } finally {
      if (this.asked === asked) delete this.root.dataset.waiting;
    }
  }

  async #bringBack() {
    if (this.go.disabled || !this.isOpen) return;
    const { width, height, seed } = this.told.recipe;
    this.go.disabled = true;
    const answer = await this.server.bring_back({
      source: this.source, step: this.film.stop, prompt: this.prompt.value, guidance_scale: this.guidance.value, width, height, seed,
    });
    this.moved();
    this.sentence.textContent = answer.sentence ?? "";
    const wrong = { guidance_scale: this.guidance, prompt: this.prompt }[answer.field];
    for (const input of [this.guidance, this.prompt]) input.toggleAttribute("aria-invalid", input === wrong);
    wrong?.setAttribute("aria-invalid", "true");
    wrong?.focus({ preventScroll: true });
    if (answer.field === "artist") tell("who", null);
    if (answer.group) this.watch(answer.group);
  }
}

async function answered(answer) {
  const told = parseJSON(await answer.text());
  if (!answer.ok) throw new Error(told.sentence ?? "This picture could not be dissolved.");
  return told;
}

function wordsFor(strength) {
  if (strength > 0.85) return "Next to nothing of it is left: expect another picture, with a memory of its light.";
  if (strength > 0.6) return "Its masses and colours are left; forms are found anew.";
  if (strength > 0.35) return "Its forms are left; the brush is another’s.";
  return "Nearly all of it is left; only its surface changes.";
}
