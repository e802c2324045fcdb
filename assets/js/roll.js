// A roll, and how it is drawn: the one film of the scrubber has one, and so has every picture beside it.

export const calm = matchMedia("(prefers-reduced-motion: reduce)");

// A roll is what can be shown of a run: its tiles by layer and step, the finished picture or null, and how many steps
// there are to be.
export function lastStop({ layers, picture, steps }) {
  return picture ? steps : Math.max(0, layers.denoised.length - 1, layers.latents.length - 1);
}

// What there is to show at a stop, [predicted, noisy]. A busy studio leaves previews out: the one before
// stands for them until the timeline is there.
export function tilesAt({ layers, picture, steps }, stop) {
  if (picture && stop >= steps) return [picture, picture];
  const newest = (tiles) => {
    for (let step = stop; step >= 0; step -= 1) if (tiles[step]) return tiles[step];
    return undefined;
  };
  const denoised = newest(layers.denoised);
  const latents = newest(layers.latents);
  return [denoised ?? latents, latents ?? denoised];
}

// Draws a roll at a position between two stops, so much of it noisy, "high" or "low" in quality; returns the stop below
// and the share of the next.
export function drawRoll(context, roll, position, noise, quality) {
  const { width, height } = context.canvas;
  context.imageSmoothingQuality = quality;
  const put = (tile, alpha) => {
    if (!tile || alpha <= 0.003) return;
    context.globalAlpha = alpha;
    context.drawImage(tile.bitmap, tile.x, tile.y, tile.width, tile.height, 0, 0, width, height);
  };
  const below = Math.floor(position);
  const share = calm.matches ? Math.round(position - below) : position - below;
  const [denoised, latents] = tilesAt(roll, below);
  const [nextDenoised, nextLatents] = tilesAt(roll, Math.min(below + 1, lastStop(roll)));
  if (!denoised) context.clearRect(0, 0, width, height);
  put(denoised, 1);
  put(latents, noise);
  // The next stop fades in: the two alphas are such that its layers have the same mix as this one's.
  put(nextDenoised, (share * (1 - noise)) / (1 - share * noise || 1));
  put(nextLatents, share * noise);
  context.globalAlpha = 1;
  return { below, share };
}
