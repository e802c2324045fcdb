// What can be done next at the inpainting board, as buttons: it depends on what lies on it.

import { button, el } from "./dom.js";
import { openTimeline } from "./desk.js";
import { downloadLink } from "./wall.js";

// `job` is the fill that is shown, if any, `laid` the same as it is laid into the picture, `other` a further one;
// `last` is the picture that lay here before. `desk` does what is chosen.
export function offersOf({ job, laid, other, running, last, source }, desk) {
  const offers = [];
  if (running) {
    const stop = button("Cancel", "close", () => desk.cancel(), { className: "quiet.cancel" });
    stop.append(el("kbd", {}, "Esc"));
    offers.push(stop);
  } else if (job) offers.push(button("Back to the mask", "reuse", () => desk.backToMask()));
  else {
    if (last) offers.push(button(last.fill ? "Take the last fill back" : "Back to the last picture", "reuse", () => desk.takeBack()));
    if (source) offers.push(el("button.inpaint-act", { type: "button", title: "Put this one away", onclick: () => desk.another() }, "Another picture"));
  }
  if (job?.artwork && other && !running) offers.push(button("Brush another in", "lerp", () => desk.weaving.begin(job, other)));
  if (!laid?.artwork) return offers;
  const timeline = button("Open timeline", "film", () => openTimeline(laid.artwork));
  timeline.disabled = !laid.timeline_ready;
  const on = el("button.accent.inpaint-on", { type: "button", onclick: () => desk.goOnFrom(laid) }, "Paint on from this");
  return [...offers, timeline, downloadLink(laid.artwork), on];
}

// While one fill is brushed into another.
export function wovenOffers(desk) {
  return [
    button("Leave it", "close", () => desk.leaveWeaving()),
    el("button.accent", { type: "button", onclick: () => desk.keepWoven() }, "Keep both as one"),
  ];
}
