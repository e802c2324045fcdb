// The stage of the first tab: it follows a group of jobs while they are painted and shows what they became.

import { blobOf, button, el, isTyping, parseJSON, refill } from "./dom.js";
import { goTo, hear, openTimeline, repaint, say, tell, useSettings } from "./desk.js";
import { Film, wholeTile } from "./film.js";
import { closeReel, fetchReel, threadReel } from "./reel.js";
import { Sheet } from "./sheet.js";
import { cards } from "./examples.js";
import { downloadLink, hangButton } from "./wall.js";

// Every tab's stage remembers the group it followed last under its own name.
const REMEMBERED = "atelier.group";
const memoryOf = (name) => (name === "stage" ? REMEMBERED : `${REMEMBERED}.${name}`);
const ENDED = ["done", "failed", "cancelled"];

export async function mount({ element, props, server, watch }) {
  const stage = new Stage(element.querySelector(".stage"), props.told, server);
  watch("value", () => {
    const group = props.value?.group;
    if (group) stage.follow(group);
  });
  hear(`follow:${props.told.name}`, ({ group, layout }) => stage.follow(group, layout));
  hear(props.told.name === "stage" ? "format" : `format:${props.told.name}`, ({ width, height }) => stage.shape(width, height));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (isTyping(event.target) && event.target.getAttribute("aria-expanded") === "true") return;
    if (stage.root.offsetParent) stage.cancel();
  });
  stage.watchModel();
  stage.attach();
}

class Stage {
  constructor(root, told, server) {
    this.root = root;
    this.server = server;
    this.memory = memoryOf(told.name);
    this.jobs = new Map();
    this.chosen = null;
    const part = (name) => root.querySelector(`.stage-${name}`);
    this.status = part("status");
    this.bar = part("progress");
    this.actions = part("actions");
    this.note = part("note");
    this.blank = part("blank");
    this.film = new Film(part("screen"), part("strip"), { label: "Steps of this picture so far" });
    this.sheet = new Sheet(part("sheet"), (id) => this.choose(id));
    part("ideas").replaceChildren(...cards(told.examples, undefined, told.thumbnails));
    this.shape(told.width, told.height);
    this.#show("blank");
  }

  shape(width, height) {
    this.blank.style.setProperty("--aspect", String(width / height));
  }

  // After a reload: what she was painting goes on, or the last picture she painted comes back.
  async attach() {
    const kept = localStorage.getItem(this.memory);
    const remembered = kept?.startsWith("{") ? JSON.parse(kept) : { group: kept };
    const answer = await fetch("/jobs/active");
    const { group } = answer.ok ? await answer.json() : { group: null };
    if (this.source) return;
    // What is painted now goes to the stage that asked for it; the first tab takes what no other knows.
    const others = Object.keys(localStorage).filter((key) => key.startsWith(REMEMBERED) && key !== this.memory);
    const elsewhere = others.some((key) => localStorage.getItem(key).includes(group));
    if (group && group !== remembered.group && this.memory === REMEMBERED && !elsewhere) this.follow(group);
    else if (remembered.group) this.follow(remembered.group, remembered.layout);
  }

  // `layout`, for a series, is where each picture belongs and what it is called there.
  follow(group, layout = null) {
    if (this.#isRunning()) say("What was being painted goes on, and will be in the gallery.");
    this.source?.close();
    this.group = group;
    this.jobs.clear();
    this.sheet.clear(layout);
    this.film.clear();
    this.status.textContent = ""; // what it said is of the pictures before
    this.chosen = null;
    this.wantsSheet = true;
    this.arriving = true;
    localStorage.setItem(this.memory, layout ? JSON.stringify({ group, layout }) : group);
    const source = new EventSource(`/jobs/${encodeURIComponent(group)}/stream`);
    this.source = source;
    source.addEventListener("job", (event) => this.#hear(parseJSON(event.data)));
    source.addEventListener("end", () => source.close());
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) {
        this.note.textContent = "The studio does not answer; trying again…";
      this.note.hidden = false;
      } else if (this.jobs.size === 0) {
        localStorage.removeItem(this.memory);
        this.#show("blank");
      }
    };
  }

  async cancel() {
    if (!this.#isRunning()) return;
    const answer = await this.server.cancel({ group: this.group });
    if (answer.sentence) say(answer.sentence);
  }

  #isRunning() {
    return [...this.jobs.values()].some((job) => !ENDED.includes(job.state));
  }

  #hear(news) {
    const known = this.jobs.get(news.id) ?? { previews: new Map() };
    const wasReady = known.timeline_ready;
    const { previews, ...rest } = news;
    const job = Object.assign(known, rest);
    this.jobs.set(job.id, job);
    for (const [step, url] of previews) {
      if (job.previews.has(step)) continue;
      job.previews.set(step, blobOf(url));
      if (job.id === this.chosen) this.#develop(job, step);
    }
    this.sheet.put(job);
    if (this.jobs.size > 1 && this.wantsSheet) this.#show("sheet");
    else if (this.chosen === null) this.choose(job.id);
    if (job.id === this.chosen) this.#showJob(job);
    this.#describe();
    if (job.timeline_ready && !wasReady) tell("painted", job);
  }

  choose(id) {
    const job = this.jobs.get(id);
    if (id !== this.chosen) {
      this.chosen = id;
      this.film.clear();
      this.film.name(job.recipe.prompt);
      this.developed = null;
      for (const step of [...job.previews.keys()].sort((a, b) => a - b)) this.#develop(job, step);
    }
    this.wantsSheet = this.jobs.size === 1;
    this.#show("picture");
    this.#showJob(job);
    this.#describe();
  }

  async #develop(job, step) {
    const bitmap = await createImageBitmap(job.previews.get(step));
    if (job.id === this.chosen) this.film.setTile("denoised", step, wholeTile(bitmap));
    else bitmap.close();
  }

  async #showJob(job) {
    const { width, height, num_inference_steps: asked } = job.recipe;
    const seen = job.previews.size > 0 || !ENDED.includes(job.state);
    this.film.expect(seen ? job.steps || asked : 0, width, height);
    if (!job.artwork) return;
    if (job.timeline_ready && job.previews.size < (job.steps || Infinity)) {
      // Previews were left out while the studio was busy, or are long gone: the kept timeline has them all.
      if (this.developed === "timeline") return;
      this.developed = "timeline";
      const reel = await fetchReel(job.artwork);
      if (job.id === this.chosen) threadReel(this.film, reel);
      else closeReel(reel);
    } else if (!this.developed) {
      this.developed = "picture";
      const image = new Image();
      image.src = `/artworks/${job.artwork}.png`;
      await image.decode();
      const bitmap = await createImageBitmap(image);
      if (job.id === this.chosen && this.developed === "picture") this.film.setPicture(wholeTile(bitmap));
      else bitmap.close();
    }
  }

  #show(view) {
    this.root.dataset.view = view;
  }

  #describe() {
    const jobs = [...this.jobs.values()].sort((a, b) => a.index - b.index);
    const job = this.root.dataset.view === "picture" ? this.jobs.get(this.chosen) : null;
    const running = this.#isRunning();
    this.root.dataset.state = running ? "running" : "rest";
    const shown = job ? [job] : jobs;
    const share = shown.reduce((sum, one) => sum + progressOf(one), 0) / Math.max(1, shown.length);
    this.bar.value = share;
    // Every step is not read aloud; what became of the picture is.
    this.status.setAttribute("aria-live", running ? "off" : "polite");
    this.status.textContent = job ? wordsFor(job) : wordsForAll(jobs);
    this.note.textContent = job ? [...(job.notes ?? [])].join(" ") : "";
    this.note.hidden = this.note.textContent === "";
    this.#offer(job, running, jobs);
    if (!this.arriving) return;
    this.arriving = false;
    // On a phone the form is under the stage: what begins now is above it.
    if (this.root.getBoundingClientRect().top < 0) window.scrollTo({ top: 0 });
  }

  // The row of actions changes only where what can be done has changed.
  #offer(job, running, jobs) {
    const done = job?.state === "done" && job.artwork;
    const drawn = jobs.every((one) => one.timeline_ready);
    const now = JSON.stringify([drawn, job?.id, done, running, done && job.timeline_ready, done && job.hung, jobs.length]);
    if (now === this.offered) return;
    this.offered = now;
    const buttons = [];
    if (job && jobs.length > 1) {
      buttons.push(button("All pictures", "grid", () => {
        this.wantsSheet = true;
        this.#show("sheet");
        this.#describe();
      }));
    }
    if (done) buttons.push(...this.#actionsFor(job));
    if (!job && jobs.length > 1 && drawn) {
      buttons.push(button("Open timelines side by side", "film", () => {
        tell("together", jobs[0].artwork);
        openTimeline(jobs[0].artwork);
      }));
    }
    if (running && !done) {
      buttons.push(button("Watch every step", "film", () => {
        tell("watch", { group: this.group, job: job?.id ?? null });
        goTo("denoising");
      }));
    }
    if (running) {
      const stop = button("Cancel", "close", () => this.cancel(), { className: "quiet.cancel" });
      stop.append(el("kbd", {}, "Esc"));
      buttons.push(stop);
    }
    refill(this.actions, buttons);
  }

  #actionsFor(job) {
    const timeline = button("Open timeline", "film", () => openTimeline(job.artwork));
    timeline.disabled = !job.timeline_ready;
    if (timeline.disabled) timeline.title = "Its timeline is still being drawn";
    const hang = hangButton(this.server, job.artwork, Boolean(job.hung), (hung) => {
      job.hung = hung;
      tell("painted", job);
      this.#describe();
    });
    const seed = button(`Seed ${job.recipe.seed}`, "reuse", () => {
      tell("seed", job.recipe.seed);
      say("The next picture uses this seed.");
    });
    seed.title = "Use this seed for the next picture";
    const reuse = button("Use these settings", "sliders", () => useSettings(job.recipe));
    const part = button("Repaint a part", "strokes", () => repaint(job.artwork));
    return [seed, timeline, part, hang, downloadLink(job.artwork), reuse];
  }

  // While the model is still loading the stage says so; nothing is asked once it is ready.
  async watchModel() {
    const line = this.root.querySelector(".stage-model");
    for (;;) {
      const health = await (await fetch("/healthz")).json();
      line.hidden = health.status === "ready";
      line.classList.toggle("failed", health.status === "failed");
      line.textContent =
        health.status === "failed" ? health.sentence : "The model is being unpacked… You can already write and queue.";
      if (health.status !== "loading") return;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

function progressOf(job) {
  if (ENDED.includes(job.state)) return 1;
  return job.steps ? job.step / job.steps : 0;
}

function wordsFor(job) {
  switch (job.state) {
    case "queued":
      return job.ahead > 0 ? `In line: ${job.ahead} ${job.ahead === 1 ? "picture" : "pictures"} before this one` : "Next in line";
    case "running":
      return job.steps ? `Step ${job.step} of ${job.steps}` : "Beginning…";
    case "failed":
      return job.sentence || "This picture could not be painted.";
    case "cancelled":
      return "Cancelled";
    default:
      return "Finished";
  }
}

function wordsForAll(jobs) {
  if (jobs.length === 0) return "";
  const done = jobs.filter((job) => job.state === "done").length;
  const failed = jobs.find((job) => job.state === "failed");
  if (failed) return failed.sentence || "A picture could not be painted.";
  if (jobs.some((job) => job.state === "cancelled")) return `Cancelled; ${done} of ${jobs.length} finished`;
  return done === jobs.length ? `${done} pictures finished` : `${done} of ${jobs.length} finished`;
}
