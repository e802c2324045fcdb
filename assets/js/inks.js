// The colours that the styles of a mix wear, in its order.
export const INKS = ["#e0654c", "#dbb15a", "#5fb0a6", "#7f9ee0", "#cf86ac", "#9fb167"];
