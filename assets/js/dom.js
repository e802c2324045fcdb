// Small pieces to build the page from. Text always goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

// el("button.quiet", {type: "button", onclick: f}, "Cancel") makes one element; null children are left out.
export function el(tagAndClasses, attributes = {}, ...children) {
  const [tag, ...classes] = tagAndClasses.split(".");
  const node = document.createElement(tag || "div");
  node.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const ICONS = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
};
const LINE_ICONS = {
  film: "M3.5 5.5h17v13h-17zM3.5 9.5h17M3.5 14.5h17M8 5.5v4M16 5.5v4M8 14.5v4M16 14.5v4",
  save: "M12 4v11m0 0-4.5-4.5M12 15l4.5-4.5M5 19.5h14",
  hang: "M4.5 9.5h15v10h-15zM12 4 7.5 9.5M12 4l4.5 5.5",
  reuse: "M5 12a7 7 0 1 0 2.2-5.1M5 4v4h4",
  sliders: "M4 8h8m5 0h3M4 16h2m5 0h9M12 8a2.5 2.5 0 1 0 5 0 2.5 2.5 0 1 0-5 0M6 16a2.5 2.5 0 1 0 5 0 2.5 2.5 0 1 0-5 0",
  grid: "M4.5 4.5h6v6h-6zM13.5 4.5h6v6h-6zM4.5 13.5h6v6h-6zM13.5 13.5h6v6h-6z",
  loop: "M17 3.5l3 3-3 3M4 11V9.5a3 3 0 0 1 3-3h13M7 20.5l-3-3 3-3M20 13v1.5a3 3 0 0 1-3 3H4",
  undo: "M9.5 14 4.5 9l5-5M4.5 9H14a5.5 5.5 0 0 1 0 11h-3",
  redo: "M14.5 14l5-5-5-5M19.5 9H10a5.5 5.5 0 0 0 0 11h3",
  bin: "M5 7h14M9.5 7V4.5h5V7M7 7l.8 12.5h8.4L17 7M10.3 10.5v5.5M13.7 10.5v5.5",
  branch: "M6 4v16M6 14c0-5 12-3 12-9M15 7.5 18 4.5l3 3",
  curve: "M4 4.5v15h16M7.5 8c3 0 3.5 7.5 6.5 7.5S17 12 19.5 12",
  wipe: "M3.5 5.5h17v13h-17zM12 3v18M15 9.5l2.5 2.5-2.5 2.5M9 9.5 6.5 12 9 14.5",
  square: "M5.5 5.5h13v13h-13z",
  strip: "M3 9h18v6H3zM9 9v6M15 9v6",
  triangle: "M12 5 4 19h16zM8 12h8M12 19l-4-7M12 19l4-7",
  lerp: "M4 19 20 5M4 19h.01M20 5h.01M12 12h.01M10.5 12a1.5 1.5 0 1 0 3 0 1.5 1.5 0 1 0-3 0",
  slerp: "M4 20C4 11 11 4 20 4M4 20 9 15M20 4 15 9M6.9 9.2a1.5 1.5 0 1 0 3 0 1.5 1.5 0 1 0-3 0",
  strokes: "M4 20V8M2.5 9.8 4 8l1.5 1.8M4 20h12M14.2 18.5 16 20l-1.8 1.5M4 20 18 6M15.5 6H18v2.5",
  follow: "M3.5 5.5h10v13h-10zM3.5 15l3.5-4 6.5 7.5M13.5 9h6.5M13.5 15h6.5M17.5 6.5 20 9l-2.5 2.5M17.5 12.5 20 15l-2.5 2.5",
  steer: "M12 12m-8 0a8 8 0 1 0 16 0 8 8 0 1 0-16 0M12 12m-2 0a2 2 0 1 0 4 0 2 2 0 1 0-4 0M12 14v6M10 11.5 4.3 10M14 11.5l5.7-1.5",
  lora: "M12 4.5 4 9l8 4.5L20 9zM4 13l8 4.5 8-4.5M4 16.5 12 21l8-4.5",
  pin: "M9 4h6l-1 6.5 3.5 3.5h-11L10 10.5zM12 14v6",
  open: "M6 9l6 6 6-6",
  close: "M6 6l12 12M18 6 6 18",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name] ?? LINE_ICONS[name]);
  path.setAttribute("class", ICONS[name] ? "icon-solid" : "icon-line");
  svg.append(path);
  return svg;
}

// A button with an icon; without visible words the label is read aloud and shown as a tooltip.
export function button(label, iconName, onclick, { bare = false, className = "quiet" } = {}) {
  const node = el(`button.${className}`, { type: "button", onclick }, icon(iconName));
  if (bare) {
    node.setAttribute("aria-label", label);
    node.title = label;
    node.classList.add("bare");
  } else {
    node.append(el("span", {}, label));
  }
  return node;
}

// Seeds have 64 bits and JavaScript's numbers 53: a seed is read as text, before JSON.parse can round it.
export function parseJSON(text) {
  return JSON.parse(text.replace(/(?<!\\)"seed":\s*(\d+)/g, '"seed":"$1"'));
}

// The bytes of a data: URL, without asking the network layer for them.
export function blobOf(dataURL) {
  const [head, body] = dataURL.split(",", 2);
  const bytes = Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: head.slice(5, head.indexOf(";")) });
}

// Text that is the same already is left alone: while scrubbing, to write it again would lay the page out again.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function isTyping(target) {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable=true]") !== null;
}

// Puts these in a place where what is alike already stays: a button that is made anew between press and release
// has no click, and none that is made anew has the focus.
export function refill(place, nodes) {
  let next = place.firstElementChild;
  const clear = (end) => {
    while (next !== end) {
      const gone = next;
      next = next.nextElementSibling;
      gone.remove();
    }
  };
  for (const node of nodes) {
    let alike = next;
    while (alike && !alike.isEqualNode(node)) alike = alike.nextElementSibling;
    if (alike) {
      clear(alike);
      alike.onclick = node.onclick; // which may know more
      next = alike.nextElementSibling;
    } else place.insertBefore(node, next);
  }
  clear(null);
}

// Calls back each time the element comes into view: tabs hide what they do not show.
export function onShown(element, callback) {
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) callback();
  }).observe(element);
}
