"""The head of the page: the studio's sign and the artist's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from studio.components.identity import artist_of
from studio.components.script import Message, scripted

if TYPE_CHECKING:
    from studio.studio import Studio

_MARKUP = """
<header class="header">
  <div class="sign"><span class="seal" aria-hidden="true">A</span><h1 class="wordmark">Atelier</h1></div>
  <button type="button" class="artist" hidden>
    <span class="artist-initial" aria-hidden="true"></span><span class="artist-name"></span>
  </button>
</header>
"""


def header(studio: Studio) -> gr.HTML:
    """Build the header; on a first visit it asks for the artist's name."""

    def who(_message: Message, request: gr.Request) -> Message:
        artist = artist_of(studio, request)
        return {"artist": {"id": artist.id, "name": artist.name} if artist else None}

    return scripted("welcome", _MARKUP, elem_id="header", server=[who])
