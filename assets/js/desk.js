// What the parts of the page say to each other: a message has a name and a detail, and no part
// knows another's insides.

const listeners = new Map();
const waiting = new Map();

// Parts that are not on the page yet hear the last message when they arrive, whichever comes first.
export function tell(name, detail) {
  const callbacks = listeners.get(name);
  if (!callbacks) return void waiting.set(name, detail);
  waiting.delete(name);
  callbacks.forEach((callback) => callback(detail));
}

export function hear(name, callback) {
  listeners.set(name, [...(listeners.get(name) ?? []), callback]);
  if (waiting.has(name)) callback(waiting.get(name));
}

export function goTo(tab) {
  document.getElementById(`${tab}-button`)?.click();
}

export function openTimeline(artwork) {
  tell("timeline", artwork);
  goTo("denoising");
}

export function repaint(artwork) {
  tell("inpaint", artwork);
  goTo("inpainting");
}

export function useSettings(recipe) {
  tell(recipe.mix ? "mix" : "settings", recipe);
  goTo(recipe.mix ? "style-blending" : "prompt-to-image");
}

// One quiet line in the head of the page, read aloud by screen readers. A popover, to stand above dialogs too.
export function say(sentence) {
  let line = document.getElementById("said");
  if (!line) {
    line = document.createElement("p");
    line.id = "said";
    line.setAttribute("role", "status");
    line.popover = "manual";
    document.body.append(line);
  }
  line.textContent = sentence;
  line.hidePopover();
  line.showPopover();
  clearTimeout(Number(line.dataset.timer));
  line.dataset.timer = String(setTimeout(() => line.hidePopover(), 4200));
}
