// A timeline to take away: the layer that is looked at, as a file.

import { el } from "./dom.js";

const KINDS = [
  ["mp4", "Video", "MP4, H.264"],
  ["webp", "WebP", "Animated, small and in full colour"],
  ["gif", "GIF", "Animated, for places that take nothing else"],
  ["filmstrip", "Filmstrip", "One PNG with every step"],
  ["zip", "Frames", "Every step as a PNG, and a JSON of its numbers"],
];

export class Takeaway {
  // `layer()` tells which layer is looked at when a link is followed.
  constructor(place, layer) {
    this.links = KINDS.map(([kind, name, title]) => el("a", {
      title, download: "", "data-kind": kind, onclick: (event) => { event.currentTarget.href = this.#address(kind, layer()); },
    }, name));
    place.replaceChildren(el("span", {}, "Take it away as"), ...this.links);
  }

  offer(artwork) {
    this.artwork = artwork;
    for (const link of this.links) link.href = this.#address(link.dataset.kind, "denoised");
  }

  #address(kind, layer) {
    return `/timelines/${this.artwork}/export/${kind}?layer=${layer}`;
  }
}
