// Pictures to and from the studio; what it refuses, it says in a sentence.

import { signed } from "./welcome.js";

export class Refusal extends Error {}

export async function pictureAt(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Refusal((await answer.json()).sentence);
  return createImageBitmap(await answer.blob());
}

// Brings a file, or an artwork as a source, and hears what it is called.
export async function send(url, body) {
  const headers = body ? { "Content-Type": body.type.startsWith("image/") ? body.type : "application/octet-stream" } : {};
  let answer;
  await signed();
  try {
    answer = await fetch(url, { method: "POST", body, headers });
  } catch {
    throw new Refusal("The studio does not answer; what you painted is kept here. Try once more.");
  }
  const said = await answer.json();
  if (!answer.ok) throw new Refusal(said.sentence);
  return said;
}

// The picture of a fill that is done.
export function imageOf(job) {
  job.image ??= pictureAt(`/artworks/${job.artwork}.png`);
  return job.image;
}
