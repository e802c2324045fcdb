// What the parts of the page say to each other: a message has a name and a detail, and no part
// knows another's insides.

const listeners = new Map();
const waiting = new Map();

// A part that is not on the page yet (a tab never opened) hears the last message when it arrives.
export function tell(name, detail) {
  const callbacks = listeners.get(name);
  if (callbacks) callbacks.forEach((callback) => callback(detail));
  else waiting.set(name, detail);
}

export function hear(name, callback) {
  listeners.set(name, [...(listeners.get(name) ?? []), callback]);
  if (waiting.has(name)) {
    const detail = waiting.get(name);
    waiting.delete(name);
    callback(detail);
  }
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
