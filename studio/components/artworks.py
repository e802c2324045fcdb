"""Kept pictures as the page's modules are told of them, and what several of them ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from pipelines.recipe import BadInput
from studio.components.identity import named_artist_of
from studio.components.script import Message

if TYPE_CHECKING:
    from studio.gallery import Artwork
    from studio.studio import Studio


def told(artwork: Artwork, artist_id: str | None) -> Message:
    """Describe a picture as JSON; its seed is text, because a browser's numbers end at 53 bits."""
    recipe = artwork.recipe.model_dump(mode="json")
    return {
        "id": artwork.id,
        "artist_name": artwork.artist_name,
        "mine": artwork.artist_id == artist_id,
        "created": artwork.created.isoformat(),
        "recipe": recipe | {"seed": str(artwork.recipe.seed)},
        "hung": artwork.hung,
        "has_timeline": artwork.has_timeline,
        "pinned": artwork.pinned,
    }


def hang_on_request(studio: Studio, message: Message, request: gr.Request) -> Message:
    """Hang a picture on the wall or take it down: `{"id", "hung"}`; answers with a sentence if it cannot."""
    try:
        artist = named_artist_of(studio, request)
        studio.gallery.hang(str(message.get("id", "")), artist.id, bool(message.get("hung")))
    except (BadInput, LookupError) as error:
        return {"sentence": str(error)}
    return {}


def cancel_on_request(studio: Studio, message: Message, request: gr.Request) -> Message:
    """Cancel a group of pictures: `{"group"}`; answers with a sentence if it cannot."""
    try:
        studio.cancel(named_artist_of(studio, request).id, str(message.get("group", "")))
    except (BadInput, LookupError) as error:
        return {"sentence": str(error)}
    return {}
