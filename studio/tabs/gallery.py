"""The gallery tab: the artist's own pictures, and the wall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.components.pictures import pictures

if TYPE_CHECKING:
    from studio.studio import Studio


def build(studio: Studio) -> None:
    """Build the tab inside the current `gr.Tab`."""
    pictures(studio)
