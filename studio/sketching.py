"""The route that draws sketches: it is watched by the page that asked, and lives no longer than that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from pipelines.recipe import BadInput
from studio.artists import Artist
from studio.studio import Studio
from studio.watching import Watch

_HEARTBEAT_S = 15.0
_FIELDS = ("prompt", "negative_prompt", "seed", "width", "height")


def add_sketching(app: FastAPI, studio: Studio) -> None:
    """Add `GET /sketch?prompt=…&negative_prompt=…&seed=…&width=…&height=…`, a stream of events.

    `sketch` tells how far it is and shows it, `refused` says why there is none; `end` is the last one. To
    close the stream is to cancel the sketch. It keeps nothing, so that a GET is what it is.
    """

    def sketch(request: Request) -> StreamingResponse:
        artist = studio.artists.from_cookies(request.cookies)
        asked = {name: request.query_params.get(name, "") for name in _FIELDS}
        return StreamingResponse(
            _events(studio, artist, asked),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    if studio.folder.companion is not None:
        app.add_api_route("/sketch", sketch)


async def _events(studio: Studio, artist: Artist | None, asked: dict[str, str]) -> AsyncIterator[str]:
    watch = Watch()
    try:
        if artist is None:
            raise BadInput("Please give your name first: sketches are drawn for somebody.", "artist")
        sketch = studio.sketch(artist.id, watch.wake, **asked)
    except BadInput as error:
        yield _event("refused", {"sentence": str(error), "field": error.field})
        yield _event("end", {})
        return
    try:
        while True:
            watch.clear()
            look = sketch.look
            yield _event(
                "sketch",
                {
                    "state": look.state,
                    "step": look.step,
                    "steps": look.steps,
                    "image": look.image,
                    "sentence": look.sentence,
                    "recipe": sketch.recipe.model_dump(mode="json"),
                },
            )
            if look.ended:
                yield _event("end", {})
                return
            if sketch.look is look and not await watch.wait(_HEARTBEAT_S):
                yield ": still here\n\n"
    finally:
        studio.sketches.let_go(sketch)


def _event(name: str, content: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(content, ensure_ascii=False)}\n\n"
