"""Keeping timelines: what they take, pins, and what to do when one is gone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import gradio as gr

from pipelines.recipe import BadInput
from studio.components.artworks import told
from studio.components.identity import artist_of, named_artist_of
from studio.components.script import Message, ServerFunction

if TYPE_CHECKING:
    from studio.studio import Studio


def keeping(studio: Studio) -> list[ServerFunction]:
    """Make what the browser calls: `usage`, `pin`, and for a timeline that is gone `lost` and `repaint`."""

    def usage(_message: Message, request: gr.Request) -> Message:
        artist = artist_of(studio, request)
        return asdict(studio.storage.usage(artist.id)) if artist else {}

    def pin(message: Message, request: gr.Request) -> Message:
        try:
            artist = named_artist_of(studio, request)
            studio.storage.pin(str(message.get("id", "")), artist.id, bool(message.get("pinned")))
        except (BadInput, LookupError) as error:
            return {"sentence": str(error)}
        return {}

    def lost(message: Message, request: gr.Request) -> Message:
        """Tell of a picture whose timeline cannot be opened, and of the group that paints it again."""
        artist = artist_of(studio, request)
        artwork_id = str(message.get("id", ""))
        try:
            artwork = studio.gallery.get(artwork_id, artist.id if artist else "")
        except LookupError as error:
            return {"sentence": str(error)}
        return {
            "artwork": told(artwork, artist.id if artist else None),
            "group": studio.jobs.repainting(artwork_id),
            "drawing": studio.is_drawing(artwork),
        }

    def repaint(message: Message, request: gr.Request) -> Message:
        try:
            group = studio.repaint(named_artist_of(studio, request).id, str(message.get("id", "")))
        except (BadInput, LookupError) as error:
            return {"sentence": str(error)}
        return {"group": group}

    return [usage, pin, lost, repaint]
