"""The gallery's hall: an artist's own pictures, and the wall."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from pipelines.recipe import BadInput
from studio.components.artworks import hang_on_request, told
from studio.components.identity import artist_of, named_artist_of
from studio.components.keeping import keeping
from studio.components.script import Message, scripted

if TYPE_CHECKING:
    from studio.studio import Studio

_AT_ONCE = 60

_MARKUP = """
<section class="gallery" aria-label="Gallery">
  <div class="gallery-doors" role="group" aria-label="Which pictures">
    <button type="button" data-room="own" aria-pressed="true">My pictures</button>
    <button type="button" data-room="wall" aria-pressed="false">The wall</button>
    <p class="gallery-usage room" hidden></p>
  </div>
  <div class="gallery-hall"></div>
  <button type="button" class="gallery-more quiet" hidden>Show more</button>
</section>
"""


def pictures(studio: Studio) -> gr.HTML:
    """Build the hall; pictures come from `/artworks/<id>.png`, which asks who is asking."""

    def list_pictures(message: Message, request: gr.Request) -> Message:
        artist = artist_of(studio, request)
        before = message.get("before")
        after_this = str(before) if before else None
        if message.get("room") == "wall":
            found = studio.gallery.wall(limit=_AT_ONCE + 1, before=after_this)
        else:
            found = studio.gallery.own(artist.id, limit=_AT_ONCE + 1, before=after_this) if artist else []
        shown = [told(artwork, artist.id if artist else None) for artwork in found[:_AT_ONCE]]
        return {"artworks": shown, "more": len(found) > _AT_ONCE}

    def hang(message: Message, request: gr.Request) -> Message:
        return hang_on_request(studio, message, request)

    def delete(message: Message, request: gr.Request) -> Message:
        try:
            studio.gallery.delete(str(message.get("id", "")), named_artist_of(studio, request).id)
        except (BadInput, LookupError) as error:
            return {"sentence": str(error)}
        return {}

    server = [list_pictures, hang, delete, *keeping(studio)]
    return scripted("gallery", _MARKUP, elem_id="pictures", server=server)
