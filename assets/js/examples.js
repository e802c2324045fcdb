// Beginnings: prompts that show the model at its best. One click fills the form.

import { el } from "./dom.js";
import { tell } from "./desk.js";

export function cards(examples, onPick = () => {}) {
  return examples.map((example) => {
    const card = el(
      "button.idea",
      {
        type: "button",
        onclick: () => {
          tell("settings", example);
          onPick();
        },
      },
      example.image ? el("img", { src: `/atelier/examples/${example.image}`, alt: "", loading: "lazy" }) : null,
      el("span", {}, example.prompt),
    );
    return card;
  });
}
