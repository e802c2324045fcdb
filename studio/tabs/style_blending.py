"""The style blending tab: styles mixed as on a palette, watched while they are painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from studio.components.mixing import beginnings, mixing, overtime
from studio.components.stage import stage

if TYPE_CHECKING:
    from studio.studio import Studio


def build(studio: Studio) -> None:
    """Build the tab inside the current `gr.Tab`."""
    with gr.Row(elem_id="blend-easel"):
        mixing(studio)
        with gr.Column(elem_id="blend-wall"):
            stage(studio, beginnings(), name="blend-stage", thumbnails="styles")
            overtime()
