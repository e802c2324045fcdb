// The ways in which a picture comes to the inpainting desk: chosen, dropped or pasted.

import { el } from "./dom.js";

export function bringing(root, bring) {
  const input = el("input", { type: "file", accept: "image/*,.heic,.heif,.tif,.tiff,.avif", hidden: true, "aria-label": "A picture from your files" });
  input.addEventListener("change", () => {
    if (input.files[0]) bring(input.files[0]);
    input.value = ""; // the same file once more is a choice too
  });
  root.append(input);
  root.querySelector(".inpaint-choose").addEventListener("click", () => input.click());
  const easel = root.querySelector(".inpaint-easel");
  easel.addEventListener("dragover", (event) => event.preventDefault());
  easel.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) bring(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file && root.offsetParent) bring(file);
  });
}
