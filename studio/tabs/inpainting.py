"""The inpainting tab: paint over a part of a picture, and get something else there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.components.holes import inpainting_desk

if TYPE_CHECKING:
    from studio.studio import Studio


def build(studio: Studio) -> None:
    """Build the tab inside the current `gr.Tab`."""
    inpainting_desk(studio)
