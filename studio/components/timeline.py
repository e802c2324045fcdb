"""The timeline: one picture's whole denoising run, scrubbed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from pipelines.palette import palette
from pipelines.styles import MAX_STYLES
from studio.components.artworks import told
from studio.components.branching import branching, branching_samplers
from studio.components.dissolving import dissolving
from studio.components.identity import artist_of
from studio.components.keeping import keeping
from studio.components.script import Message, scripted

if TYPE_CHECKING:
    from studio.studio import Studio

_RECENT = 24
# What the model's betas are made of, in its scheduler_config.json.
_SCHEDULE = (
    "beta_start",
    "beta_end",
    "beta_schedule",
    "num_train_timesteps",
    "rescale_betas_zero_snr",
    "prediction_type",
)

_MARKUP = """
<section class="timeline" data-state="empty" aria-label="Denoising">
  <div class="timeline-words">
    <form class="timeline-branch" aria-label="Branch" novalidate hidden></form>
    <div class="timeline-choose" hidden>
      <h3>Your timelines</h3>
      <div class="timeline-others"></div>
      <p class="timeline-usage room" hidden></p>
    </div>
    <h2 class="timeline-prompt"></h2>
    <p class="timeline-recipe"></p>
    <section class="timeline-mix" aria-label="Mix" hidden></section>
    <p class="timeline-origin" hidden></p>
    <nav class="timeline-family" aria-label="Family" hidden></nav>
    <dl class="readout">
      <div><dt>Noise <span class="timeline-noise-value"></span></dt>
        <dd><meter class="timeline-noise-bar" min="0" max="1" aria-label="Noise"></meter>
          <span class="timeline-noise-words"></span></dd></div>
      <div><dt>Guidance <span class="timeline-pull-value"></span></dt>
        <dd><meter class="timeline-pull-bar" min="0" max="1" aria-label="Guidance"></meter>
          <span class="timeline-pull-words"></span></dd></div>
      <div><dt>Sigma <span class="timeline-sigma-value"></span></dt>
        <dd class="timeline-sigma-words"></dd></div>
      <div><dt>Timestep <span class="timeline-timestep-value"></span></dt>
        <dd class="timeline-timestep-words"></dd></div>
    </dl>
    <p class="timeline-explained">The picture was not drawn from left to right but out of grain, all of it at
      once. At every step the model looks at <em>what is there</em> and guesses the picture hidden in it:
      <em>what it sees</em>. A little grain is taken away in the direction of that guess, and it looks again.
      Early guesses are vague and bold, late ones only polish.</p>
    <form class="timeline-forward" aria-label="Forward process" novalidate hidden></form>
    <details class="timeline-formula"></details>
    <p class="timeline-dissolve"></p>
    <p class="timeline-takeaway"></p>
  </div>
  <div class="timeline-easel">
    <div class="timeline-live" role="status"></div>
    <div class="timeline-screen"></div>
    <div class="timeline-nothing"><h2>No timeline yet</h2>
      <p>Paint a picture, and its whole life from noise to image can be walked through here.</p>
      <button type="button" class="accent timeline-paint">Paint a picture</button></div>
    <div class="timeline-gone" role="status" hidden></div>
    <div class="timeline-strip"></div>
    <div class="timeline-curves"></div>
    <div class="timeline-bar">
      <div class="timeline-transport"></div>
      <p class="timeline-place" aria-hidden="true"></p>
      <div class="timeline-layers" role="group" aria-label="What is shown">
        <button type="button" data-layer="denoised" title="The picture the model predicts at this step (x0)">
          What it sees</button>
        <input class="timeline-fade" type="range" min="0" max="1" step="0.01" value="0"
          aria-label="Fade from what the model sees to what is there">
        <button type="button" data-layer="latents" title="The noisy picture this step began with (xt)">
          What is there</button>
        <kbd>X</kbd>
      </div>
      <div class="timeline-heat"></div>
      <div class="timeline-ways"></div>
    </div>
  </div>
</section>
"""


def timeline(studio: Studio) -> gr.HTML:
    """Build the scrubber with the strip of the artist's recent pictures."""

    def with_timeline(_message: Message, request: gr.Request) -> Message:
        artist = artist_of(studio, request)
        recent = studio.gallery.own(artist.id, limit=_RECENT) if artist else []
        return {"artworks": [told(artwork, None) for artwork in recent if artwork.has_timeline]}

    def companions(message: Message, request: gr.Request) -> Message:
        artist = artist_of(studio, request)
        try:
            found = studio.gallery.companions(str(message.get("artwork", "")), artist.id if artist else "")
        except LookupError:
            return {"members": []}
        return {"members": [told(artwork, None) for artwork in found if artwork.has_timeline]}

    folder = studio.folder
    return scripted(
        "timeline",
        _MARKUP,
        elem_id="timeline",
        server=[with_timeline, companions, *branching(studio), *keeping(studio), *dissolving(studio)],
        told={
            "schedule": {name: folder.scheduler_config.get(name) for name in _SCHEDULE},
            "samplers": branching_samplers(folder),
            "palette": [swatch.model_dump() for swatch in palette()],
            "most": MAX_STYLES,
        },
    )
