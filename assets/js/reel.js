// A kept timeline, fetched once: its numbers, one sheet of tiles a layer, and the finished picture.

import { parseJSON } from "./dom.js";
import { wholeTile } from "./film.js";

async function bitmapFrom(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error("A part of this timeline is missing.");
  return createImageBitmap(await answer.blob());
}

// Throws an Error with the sentence to show when the timeline cannot be had.
export async function fetchReel(artwork) {
  const answer = await fetch(`/timelines/${encodeURIComponent(artwork)}`);
  const told = parseJSON(await answer.text());
  if (!answer.ok) throw new Error(told.sentence ?? "This picture has no timeline.");
  const sheet = (url) => (url ? bitmapFrom(url).catch(() => null) : null);
  const [denoised, latents, picture] = await Promise.all(
    [sheet(told.layers.denoised), sheet(told.layers.latents), bitmapFrom(told.picture)],
  );
  if (!denoised && !latents) {
    picture.close();
    throw new Error("The pictures of this timeline are missing or damaged.");
  }
  if (told.gone.length === 0 && !(denoised && latents)) told.gone.push("Some pictures of this timeline cannot be read.");
  // Where one sheet is damaged the other stands for it.
  return { told, denoised: denoised ?? latents, latents: latents ?? denoised, picture };
}

// The finished picture alone, for a film without steps.
export async function fetchPicture(artwork) {
  return wholeTile(await bitmapFrom(`/artworks/${encodeURIComponent(artwork)}.png`));
}

export function closeReel(reel) {
  [reel.denoised, reel.latents, reel.picture].forEach((bitmap) => bitmap.close());
}

// A reel as a roll of tiles, each a place on its sheet.
export function rollOf({ told, denoised, latents, picture }) {
  const tiles = (bitmap) => Array.from({ length: told.count }, (_, step) => ({
    bitmap,
    ...told.tile,
    x: (step % told.columns) * told.tile.width,
    y: Math.floor(step / told.columns) * told.tile.height,
  }));
  return { layers: { denoised: tiles(denoised), latents: tiles(latents) }, picture: wholeTile(picture), steps: told.count };
}

// Puts a reel on a film, which gives the bitmaps back when it is cleared.
export function threadReel(film, reel) {
  const { layers, picture, steps } = rollOf(reel);
  const { width, height } = reel.told.recipe;
  film.expect(steps, width, height);
  for (const [layer, tiles] of Object.entries(layers)) tiles.forEach((tile, step) => film.setTile(layer, step, tile));
  film.setPicture(picture);
}
