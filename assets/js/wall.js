// Hanging a picture on the wall and taking it down, wherever it is shown.

import { button } from "./dom.js";
import { say } from "./desk.js";

// A button for it; `then` hears whether the picture hangs now.
export function hangButton(server, id, hung, then) {
  return button(hung ? "Take down" : "Hang on the wall", "hang", async () => {
    const answer = await server.hang({ id, hung: !hung });
    if (answer.sentence) {
      say(answer.sentence);
      return;
    }
    say(hung ? "Taken down from the wall." : "Hung on the wall, for every artist here to see.");
    then(!hung);
  });
}

// A link that saves the PNG, with everything needed to paint it again inside.
export function downloadLink(id) {
  const link = document.createElement("a");
  link.className = "quiet";
  link.href = `/artworks/${id}.png?download=1`;
  link.download = "";
  link.append(...button("Download", "save").childNodes);
  return link;
}
