"""Who is asking: the artist a browser's cookie names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from pipelines.recipe import BadInput

if TYPE_CHECKING:
    from studio.artists import Artist
    from studio.studio import Studio


def artist_of(studio: Studio, request: gr.Request) -> Artist | None:
    """Tell who sent a request, or None when her browser was not asked for a name yet."""
    cookies: dict[str, str] = dict(request.cookies)
    return studio.artists.from_cookies(cookies)


def named_artist_of(studio: Studio, request: gr.Request) -> Artist:
    """Tell who sent a request.

    Raises:
        BadInput: with the field "artist" when her browser was not asked for a name yet.
    """
    artist = artist_of(studio, request)
    if artist is None:
        raise BadInput("Please give your name first: pictures are kept under it.", "artist")
    return artist
