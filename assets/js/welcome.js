// Who is painting: asked once, on the first visit, and shown in the header from then on.

import { el, isTyping } from "./dom.js";
import { hear, say } from "./desk.js";

let signing = null;

// What is asked in her name waits for this: she may write and paint before the studio has taken the name down.
export function signed() {
  return signing;
}

export async function mount({ element, server }) {
  const badge = element.querySelector(".artist");
  const show = (artist) => {
    badge.hidden = !artist;
    badge.querySelector(".artist-initial").textContent = artist ? [...artist.name][0].toUpperCase() : "";
    badge.querySelector(".artist-name").textContent = artist?.name ?? "";
    badge.setAttribute("aria-label", artist ? `You paint as ${artist.name}; sign differently` : "");
  };
  badge.addEventListener("click", () => ask(show, badge.querySelector(".artist-name").textContent));
  hear("who", () => ask(show));
  const { artist } = await server.who({});
  if (artist) return show(artist);
  // Who writes already is asked when she leaves the field: her next words would go into the name.
  if (isTyping(document.activeElement)) await new Promise((left) => document.activeElement.addEventListener("blur", left, { once: true }));
  await signed();
  if (badge.hidden) ask(show);
}

function ask(show, name = "") {
  if (document.querySelector("dialog.welcome[open]")) return;
  const input = el("input", { id: "artist-name", type: "text", maxlength: 200, autocomplete: "nickname", spellcheck: "false" });
  input.value = name;
  const complaint = el("p.complaint", { role: "alert", id: "artist-complaint" });
  const form = el(
    "form",
    { method: "dialog" },
    el("div.seal", { "aria-hidden": "true" }, "A"),
    el("h1", { id: "welcome-title" }, name ? "Sign as" : "Welcome to Atelier"),
    el("p", {}, name
      ? "Pictures painted from now on carry the new name; the earlier ones stay yours."
      : "A shared studio where you watch pictures come out of the noise. How should yours be signed?"),
    el("label", { for: "artist-name" }, "Your name"),
    input,
    complaint,
    el("div.welcome-buttons", {},
      el("button.accent", { type: "submit" }, name ? "Sign" : "Enter the studio"),
      name ? el("button.quiet", { type: "button", onclick: () => dialog.close() }, "Keep it") : null),
  );
  const dialog = el("dialog.welcome", { "aria-labelledby": "welcome-title" }, form);
  const open = () => {
    document.body.append(dialog);
    dialog.showModal();
    input.select();
  };
  const sign = async () => {
    const told = await takeDown(input.value);
    if (told.name) {
      show(told);
      say(name ? `You paint as ${told.name} now.` : `Welcome, ${told.name}.`);
      return;
    }
    complaint.textContent = told.sentence ?? "The studio could not take this name down. Please try once more.";
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", complaint.id);
    open();
  };
  // She goes in at once: behind an open dialog, what she writes would be lost. It comes back if the name is refused.
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    signing = sign();
  });
  // The first time there is no way round the name: Escape does not close it.
  if (!name) dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.addEventListener("close", () => dialog.open || dialog.remove());
  open();
}

// The artist as the studio knows her now, or a sentence about what is wrong with the name.
async function takeDown(name) {
  try {
    const answer = await fetch("/artist", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name }),
    });
    return await answer.json();
  } catch {
    return {};
  }
}
