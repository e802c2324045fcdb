// The film: a canvas that shows one stop of a denoising run, and under it a strip with every stop on it.
// Everything it draws is already in memory, so moving along it asks the server for nothing.

import { el, isTyping } from "./dom.js";
import { calm, drawRoll, lastStop, tilesAt } from "./roll.js";

const STOPS_PER_SECOND = 6;
const HOLD_LAST_S = 1.2;
const FADE_MS = 180;
const NARROW_PX = 12;
const CELL_PX = 40;
let current = null; // the film the keyboard moves: the one last shown or touched

// A tile is {bitmap, x, y, width, height}: a whole bitmap, or one place in a sprite.
export const wholeTile = (bitmap) => ({ bitmap, x: 0, y: 0, width: bitmap.width, height: bitmap.height });

export class Film {
  // screen and strip are empty elements to build in; onMove(stop) hears of every move to another stop,
  // onPlay(playing) of start and halt.
  constructor(screen, strip, { onMove = () => {}, onPlay = () => {}, label = "Steps of this picture" } = {}) {
    this.onMove = onMove;
    this.onPlay = onPlay;
    this.canvas = el("canvas.film-canvas", { role: "img" });
    this.screen = screen;
    screen.classList.add("film-screen");
    screen.append(this.canvas);
    this.cells = el("canvas.film-cells", { "aria-hidden": "true" });
    this.head = el("div.film-head", { "aria-hidden": "true" });
    this.strip = strip;
    strip.classList.add("film-strip");
    strip.append(this.cells, this.head);
    for (const [name, value] of [["role", "slider"], ["tabindex", "0"], ["aria-label", label]]) {
      strip.setAttribute(name, value);
    }
    this.clear();
    this.speed = 1;
    this.loop = false;
    this.#listen();
  }

  // Forget the picture. The bitmaps are given back to the browser at once.
  clear() {
    for (const layer of Object.values(this.layers ?? {})) {
      layer.forEach((tile) => tile?.bitmap.close());
    }
    this.picture?.bitmap.close();
    this.layers = { denoised: [], latents: [] };
    this.picture = null;
    this.heat = null;
    this.steps = 0;
    this.position = 0;
    this.noise = 0; // 0 shows the predicted picture, 1 the noisy one, between them a fade
    this.backwards = false; // plays from the last stop to the first
    this.follows = true; // stays at the newest stop until the artist scrubs back
    this.aspect = 1;
    this.pause();
    this.#changed();
  }

  // What a screen reader says the picture is.
  name(prompt) {
    this.canvas.setAttribute("aria-label", prompt || "A picture without a prompt");
  }

  // The run will have so many steps; the finished picture is one stop more.
  expect(steps, width, height) {
    this.steps = Math.max(this.steps, steps);
    if (this.aspect !== width / height) {
      this.aspect = width / height;
      this.#fit();
    }
    this.#changed();
  }

  setTile(layer, step, tile) {
    const old = this.layers[layer][step];
    if (old && old.bitmap !== tile.bitmap) old.bitmap.close();
    this.layers[layer][step] = tile;
    if (this.follows && !this.picture) this.#moveTo(this.last);
    this.#changed();
  }

  setPicture(tile) {
    this.picture?.bitmap.close();
    this.picture = tile;
    if (this.follows) this.#moveTo(this.last);
    this.#changed();
  }

  // The last stop there is something to show at: the finished picture, or the newest step.
  get last() {
    return lastStop(this);
  }

  get stop() {
    return Math.round(this.position);
  }

  get isEmpty() {
    return !this.picture && this.layers.denoised.length === 0 && this.layers.latents.length === 0;
  }

  go(stop) {
    this.pause();
    this.#moveTo(Math.min(this.last, Math.max(0, stop)));
    this.follows = this.stop === this.last;
  }

  play() {
    if (this.playing || this.last === 0) return;
    this.playing = true;
    this.follows = false;
    this.held = 0;
    if (this.stop === this.#end) this.#moveTo(this.last - this.#end);
    this.onPlay(true);
    this.#wake();
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.#moveTo(this.stop);
    this.onPlay(false);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  // Fade to the noisy picture (1) or to the predicted one (0), or show them mixed.
  fadeTo(noise, { atOnce = false } = {}) {
    this.fade = atOnce || calm.matches ? null : { from: this.noise, to: noise, since: performance.now() };
    if (!this.fade) this.noise = noise;
    this.#wake();
  }

  // Heat to lie over the picture: a bitmap of tiles in so many columns, one for each stop, and how strong it
  // is from 0 to 1; null takes it away.
  lay(heat) {
    this.heat = heat;
    this.#wake();
  }

  // Leaves room on the screen for another picture beside it, so many pixels away; 0 takes the whole screen.
  set beside(gap) {
    if (gap === (this.gap ?? 0)) return;
    this.gap = gap;
    this.#fit();
  }

  #moveTo(position) {
    const before = this.stop;
    this.position = position;
    if (before !== this.stop) this.onMove(this.stop);
    this.#describe();
    this.#wake();
  }

  #describe() {
    const finished = this.picture && this.stop === this.steps;
    this.strip.setAttribute("aria-valuemin", "1");
    this.strip.setAttribute("aria-valuemax", String(this.last + 1));
    this.strip.setAttribute("aria-valuenow", String(this.stop + 1));
    this.strip.setAttribute(
      "aria-valuetext",
      finished ? "The finished picture" : `Step ${this.stop + 1} of ${this.steps}`,
    );
    this.head.style.transform = `translateX(${((this.position + 0.5) / (this.steps + 1)) * this.strip.clientWidth}px)`;
    this.head.hidden = this.isEmpty;
    this.strip.classList.toggle("film-alone", this.steps === 0);
  }

  #changed() {
    this.cellsAreOld = true;
    this.#describe();
    this.#wake();
  }

  #wake() {
    this.frame ??= requestAnimationFrame((now) => this.#draw(now));
  }

  #draw(now) {
    this.frame = null;
    const passed = Math.min(0.1, (now - (this.drawnAt ?? now)) / 1000);
    this.drawnAt = now;
    if (this.fade) {
      const share = Math.min(1, Math.max(0, (now - this.fade.since) / FADE_MS));
      this.noise = this.fade.from + (this.fade.to - this.fade.from) * share;
      if (share === 1) this.fade = null;
    }
    if (this.playing) this.#advance(passed);
    this.#drawScreen();
    if (this.cellsAreOld || this.cellsAreNoisy !== this.noise > 0.5) this.#drawCells();
    if (this.playing || this.fade) this.#wake();
    else this.drawnAt = null;
  }

  // The stop that playing comes to.
  get #end() {
    return this.backwards ? 0 : this.last;
  }

  #advance(passed) {
    const end = this.#end;
    if (this.position !== end) {
      const way = Math.min(Math.abs(end - this.position), passed * STOPS_PER_SECOND * this.speed);
      this.#moveTo(this.position + Math.sign(end - this.position) * way);
      return;
    }
    this.held += passed;
    if (!this.loop) this.pause();
    else if (this.held > HOLD_LAST_S) {
      this.held = 0;
      this.#moveTo(this.last - end);
    }
  }

  // Without a GPU, to enlarge well takes longer than a frame lasts: what moves is drawn quickly, what rests well.
  get quality() {
    return this.dragging || this.playing || this.fade ? "low" : "high";
  }

  #drawScreen() {
    const context = this.canvas.getContext("2d");
    const { below, share } = drawRoll(context, this, this.position, this.noise, this.quality);
    this.#drawHeat(context, below, share);
    this.onDraw?.();
  }

  // Heat is drawn small, this stop's and the next's mixed, and laid over the picture in one go: smooth as it is,
  // it needs no more, and moving along stays quick.
  #drawHeat(context, below, share) {
    if (!this.heat || this.isEmpty) return;
    const { bitmap, columns, width, height, strength } = this.heat;
    this.glow ??= new OffscreenCanvas(width, height).getContext("2d");
    const { glow } = this;
    if (glow.canvas.width !== width || glow.canvas.height !== height) Object.assign(glow.canvas, { width, height });
    glow.globalCompositeOperation = "copy";
    for (const [stop, alpha] of [[below, 1 - share], [Math.min(below + 1, this.last), share]]) {
      glow.globalAlpha = alpha;
      glow.drawImage(bitmap, (stop % columns) * width, Math.floor(stop / columns) * height, width, height, 0, 0, width, height);
      glow.globalCompositeOperation = "lighter";
    }
    context.imageSmoothingQuality = "low";
    context.globalAlpha = strength;
    context.drawImage(glow.canvas, 0, 0, context.canvas.width, context.canvas.height);
    context.globalAlpha = 1;
  }

  #drawCells() {
    this.cellsAreOld = false;
    this.cellsAreNoisy = this.noise > 0.5;
    const ratio = devicePixelRatio;
    const width = Math.round(this.strip.clientWidth * ratio);
    const height = Math.round(this.strip.clientHeight * ratio);
    if (width === 0 || height === 0) return;
    if (this.cells.width !== width || this.cells.height !== height) {
      this.cells.width = width;
      this.cells.height = height;
    }
    const context = this.cells.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    const stops = this.steps + 1;
    const slot = width / stops;
    // On a long way a cell stands for several stops: slivers of pictures are none.
    const many = slot < NARROW_PX * ratio ? Math.ceil(CELL_PX * ratio / slot) : 1;
    for (let first = 0; first < stops; first += many) {
      const after = Math.min(stops, first + many);
      const stop = Math.min(this.last, after === stops ? stops - 1 : first + Math.floor(many / 2));
      const left = Math.round(first * slot);
      const wide = Math.max(1, Math.round(after * slot) - left - ratio);
      const tile = first <= this.last ? tilesAt(this, stop)[this.cellsAreNoisy ? 1 : 0] : null;
      if (!tile) {
        context.fillStyle = "rgba(239, 232, 220, 0.05)";
        context.fillRect(left, 0, wide, height);
        continue;
      }
      const scale = Math.max(wide / tile.width, height / tile.height);
      const cut = { width: wide / scale, height: height / scale };
      context.drawImage(
        tile.bitmap,
        tile.x + (tile.width - cut.width) / 2, tile.y + (tile.height - cut.height) / 2, cut.width, cut.height,
        left, 0, wide, height,
      );
    }
  }

  #fit() {
    const { clientWidth, clientHeight } = this.screen;
    if (clientWidth === 0 || clientHeight === 0) return;
    const room = this.gap ? (clientWidth - this.gap) / 2 : clientWidth;
    const width = Math.min(room, clientHeight * this.aspect);
    this.canvas.style.width = `${Math.round(width)}px`;
    this.canvas.style.height = `${Math.round(width / this.aspect)}px`;
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round((width / this.aspect) * devicePixelRatio);
    this.#changed();
  }

  #listen() {
    const shown = () => {
      this.#fit();
      if (this.screen.clientWidth > 0) current = this;
    };
    new ResizeObserver(shown).observe(this.screen);
    new ResizeObserver(() => this.#changed()).observe(this.strip);
    this.#dragOver(this.strip, () => this.strip.getBoundingClientRect());
    this.#dragOver(this.canvas, () => this.canvas.getBoundingClientRect());
    this.rollOver(this.strip);
    this.rollOver(this.canvas);
  }

  // The wheel over `target` goes along the film.
  rollOver(target) {
    let rolled = 0;
    target.addEventListener("wheel", (event) => {
      if (this.last === 0) return;
      event.preventDefault();
      rolled += Math.abs(event.deltaY) > Math.abs(event.deltaX) ? event.deltaY : event.deltaX;
      const whole = Math.trunc(rolled / 40);
      rolled -= whole * 40;
      if (whole !== 0) this.go(this.stop + whole);
    }, { passive: false });
  }

  #dragOver(target, rectangle) {
    const follow = (event) => {
      const { left, width } = rectangle();
      const place = ((event.clientX - left) / width) * (this.steps + 1) - 0.5;
      this.#moveTo(Math.min(this.last, Math.max(0, place)));
    };
    target.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.last === 0) return;
      current = this;
      this.pause();
      target.setPointerCapture(event.pointerId);
      this.dragging = true;
      if (target === this.strip) this.strip.focus({ preventScroll: true });
      follow(event);
    });
    target.addEventListener("pointermove", (event) => {
      if (this.dragging) follow(event);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      target.addEventListener(end, () => {
        if (!this.dragging) return;
        this.dragging = false;
        this.go(this.stop);
      });
    }
  }

  // True when the key was one of the film's.
  press(key) {
    const leaps = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -5, PageUp: 5 };
    if (key in leaps) this.go(this.stop + leaps[key]);
    else if (key === "Home") this.go(0);
    else if (key === "End") this.go(this.last);
    else if (key === " ") this.toggle();
    else if (key.toLowerCase() === "x" && this.layers.latents.length > 0) this.onLayerKey?.();
    else return false;
    return true;
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !current || current.isEmpty) return;
  if (current.screen.offsetParent === null || isTyping(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  const own = event.target === current.strip;
  // Up, Down and Page keys scroll the page unless the strip itself has the focus; buttons keep their Space.
  if (!own && ["ArrowUp", "ArrowDown", "PageUp", "PageDown"].includes(event.key)) return;
  const onControl = event.target.closest("button, a, summary") !== null;
  if (onControl && event.key === " " && !event.target.closest("[role=tab]")) return;
  if (event.target.closest("[role=listbox]")) return;
  if (!current.press(event.key)) return;
  event.preventDefault();
  // From a tab the focus comes along, so that what the keys move is also what is read aloud.
  if (event.target.closest("[role=tab]")) current.strip.focus({ preventScroll: true });
});
