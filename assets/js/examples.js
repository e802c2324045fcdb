// Beginnings: prompts that show the model at its best. One click fills the form.

import { el } from "./dom.js";
import { tell } from "./desk.js";

// An example with a mix fills the mixing desk, any other the form; `thumbnails` is their folder.
export function cards(examples, onPick = () => {}, thumbnails = "examples") {
  return examples.map((example) => {
    const image = example.image ?? example.thumbnail;
    const card = el(
      "button.idea",
      {
        type: "button",
        onclick: () => {
          tell(example.mix ? "mix" : "settings", example);
          onPick();
        },
      },
      image ? el("img", { src: `/atelier/${thumbnails}/${image}`, alt: "", loading: "lazy" }) : null,
      el("span", {}, example.label ?? example.prompt),
    );
    return card;
  });
}
