// A slider and its number.

import { el } from "./dom.js";

export function knob({ min = 0, max, step = max / 20, value, label, onInput }) {
  const slider = el("input.portion-weight", { type: "range", min, max, step, value, "aria-label": label });
  const number = el("output.portion-share");
  const show = () => { number.textContent = String(Number(slider.valueAsNumber.toFixed(2))).replace("-", "−"); };
  slider.addEventListener("input", () => {
    show();
    onInput(slider.valueAsNumber);
  });
  slider.addEventListener("set", show);
  show();
  return [slider, number];
}
