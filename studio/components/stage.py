"""The stage: where a group of pictures is watched while it is painted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import gradio as gr

from studio.components.artworks import cancel_on_request, hang_on_request
from studio.components.script import Message, scripted

if TYPE_CHECKING:
    from studio.studio import Studio

_MARKUP = """
<section class="stage" data-view="blank" data-state="rest" aria-label="Stage">
  <div class="stage-wall">
    <div class="stage-blank">
      <div class="blank-canvas"><p>An empty canvas</p></div>
      <div class="stage-beginning">
        <p>Write what you would like to see, or begin from one of these.</p>
        <div class="stage-ideas ideas"></div>
      </div>
    </div>
    <div class="stage-screen"></div>
    <div class="stage-sheet"></div>
  </div>
  <div class="stage-strip"></div>
  <progress class="stage-progress" max="1" value="0" aria-label="Progress"></progress>
  <div class="stage-bar">
    <p class="stage-status" role="status"></p>
    <div class="stage-actions"></div>
  </div>
  <p class="stage-note" hidden></p>
  <p class="stage-model" role="status" hidden></p>
</section>
"""


def stage(
    studio: Studio, examples: Sequence[Message], *, name: str = "stage", thumbnails: str = "examples"
) -> gr.HTML:
    """Build a stage; its value is `{"group": id}` of the pictures to follow.

    Each tab's stage has a `name`, its id in the page and what the page's other parts call it. `thumbnails` is
    the folder of assets where the examples' are.
    """

    def cancel(message: Message, request: gr.Request) -> Message:
        return cancel_on_request(studio, message, request)

    def hang(message: Message, request: gr.Request) -> Message:
        return hang_on_request(studio, message, request)

    folder = studio.folder
    return scripted(
        "stage",
        _MARKUP,
        elem_id=name,
        server=[cancel, hang],
        told={
            "width": folder.width,
            "height": folder.height,
            "examples": list(examples),
            "name": name,
            "thumbnails": thumbnails,
        },
    )
