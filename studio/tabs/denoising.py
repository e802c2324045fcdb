"""The denoising tab: any picture's run, from noise to image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.components.timeline import timeline

if TYPE_CHECKING:
    from studio.studio import Studio


def build(studio: Studio) -> None:
    """Build the tab inside the current `gr.Tab`."""
    timeline(studio)
