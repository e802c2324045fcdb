"""The studio's own routes: who is asking, live jobs, private pictures and timelines."""

from __future__ import annotations

import json
import logging
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.exc import DatabaseError
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import NotModifiedResponse
from starlette.types import Scope

from pipelines.models.shelf import Shelf
from pipelines.recipe import BadInput
from studio.artists import COOKIE, COOKIE_AGE_S, GUEST_ID, Artist
from studio.gallery import NotHers, is_id
from studio.jobs import Job
from studio.sentences import sentence_for
from studio.sketching import add_sketching
from studio.sources import KeptSource
from studio.studio import Studio

log = logging.getLogger(__name__)

ASSETS = Path(__file__).resolve().parents[1] / "assets"
_SERVED_ASSETS = ("css", "js", "examples", "styles")
_KINDS = {"text/javascript": ".js", "image/webp": ".webp"}
_HEARTBEAT_S = 15.0
_RECONNECT_MS = 1000
_MAX_BODY_BYTES = 10_000
Found = TypeVar("Found")
_PRIVATE = {"Cache-Control": "private, no-cache"}  # kept by her browser, asked again: rights may change


class Unknown(Exception):
    """The request carries no identity and what it asks for is not the guest's."""


class Welcome(BaseModel):
    """What `POST /artist` takes."""

    model_config = ConfigDict(extra="forbid")

    name: str


def create_app(studio: Studio) -> FastAPI:
    """Make the application with every route of the studio's own; the page is mounted after them."""
    for kind, suffix in _KINDS.items():
        mimetypes.add_type(kind, suffix)  # not every system knows these, and a module must be JavaScript
    app = FastAPI(title="Atelier", openapi_url=None)
    _add_refusals(app)
    _add_artist(app, studio)
    _add_jobs(app, studio)
    _add_pictures(app, studio)
    _add_sources(app, studio)
    add_sketching(app, studio)
    for folder in _SERVED_ASSETS:
        app.mount(f"/atelier/{folder}", _Assets(directory=ASSETS / folder, check_dir=False))
    _add_health(app, studio)
    return app


def _add_health(app: FastAPI, studio: Studio) -> None:
    def healthz() -> JSONResponse:
        model = studio.model_state
        return JSONResponse(
            {
                "status": model.state,
                "model": studio.folder.name,
                "device": model.device,
                "queue": studio.jobs.counts(),
                "sentence": model.sentence,
            }
        )

    app.add_api_route("/healthz", healthz)


class _Assets(StaticFiles):
    """Files that browsers ask about again at every use, so that an update shows at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _refuse(status: int, sentence: str, field: str = "") -> JSONResponse:
    return JSONResponse({"sentence": sentence, "field": field}, status)


def _add_refusals(app: FastAPI) -> None:
    """Answer every refusal with a sentence."""

    def handler(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def refuse(request: Request, error: Exception) -> Response:
            del request
            return _refuse(status, str(error), getattr(error, "field", ""))

        return refuse

    app.add_exception_handler(BadInput, handler(422))
    app.add_exception_handler(NotHers, handler(404))
    app.add_exception_handler(Unknown, handler(401))

    async def broken(request: Request, error: Exception) -> Response:
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        return _refuse(500, sentence_for(error))

    app.add_exception_handler(DatabaseError, broken)
    app.add_exception_handler(OSError, broken)


def _caller(studio: Studio, request: Request) -> Artist:
    return studio.artists.from_cookies(request.cookies) or studio.artists.guest()


def _not_hers(artist: Artist, error: NotHers) -> Exception:
    """Say "404" to somebody known and "who are you" to a browser without an identity."""
    if artist.id == GUEST_ID:
        return Unknown("Atelier does not know this browser yet: open the studio's page and give your name.")
    return error


def _add_artist(app: FastAPI, studio: Studio) -> None:
    def who_am_i(request: Request) -> Response:
        artist = studio.artists.from_cookies(request.cookies)
        if artist is None:
            return _refuse(404, "Atelier does not know this browser yet: please give your name.")
        return JSONResponse({"id": artist.id, "name": artist.name}, headers=_PRIVATE)

    async def be_welcome(request: Request) -> Response:
        # A form on another site cannot send this content type without the browser asking here first.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refuse(415, 'Send {"name": "…"} as application/json.')
        try:
            name = Welcome.model_validate_json(await _read_body(request)).name
        except ValidationError:
            return _refuse(422, 'Send {"name": "…"} as application/json.', "name")
        known = studio.artists.from_cookies(request.cookies)
        if known is not None:
            artist = await run_in_threadpool(studio.artists.rename, known.id, name)
        else:
            artist = await run_in_threadpool(studio.artists.create, name)
        response = JSONResponse({"id": artist.id, "name": artist.name})
        response.set_cookie(
            COOKIE, studio.artists.cookie(artist), max_age=COOKIE_AGE_S, httponly=True, samesite="lax"
        )
        return response

    app.add_api_route("/artist", who_am_i)
    app.add_api_route("/artist", be_welcome, methods=["POST"])


async def _read_body(request: Request, most: int = _MAX_BODY_BYTES) -> bytes:
    """Read a body; what is longer than `most` bytes is cut, and empty."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return b""
    return bytes(body)


def _add_jobs(app: FastAPI, studio: Studio) -> None:
    def active(request: Request) -> Response:
        artist = studio.artists.from_cookies(request.cookies)
        group = studio.jobs.active(artist.id) if artist else None
        return JSONResponse({"group": group}, headers=_PRIVATE)

    def stream(group: str, request: Request) -> Response:
        artist = _caller(studio, request)
        try:
            studio.jobs.of_group(artist.id, group)
        except NotHers as error:
            raise _not_hers(artist, error) from None
        return StreamingResponse(
            _job_events(studio, artist.id, group),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    app.add_api_route("/jobs/active", active)
    app.add_api_route("/jobs/{group}/stream", stream)


async def _job_events(studio: Studio, artist_id: str, group: str) -> AsyncIterator[str]:
    """Write one `job` event for each job, then one for each change, and `end` when all is over.

    When the studio closes, the stream ends without `end`: the browser connects again to the next one.
    """
    jobs = studio.jobs
    versions: dict[str, int] = {}
    shown: dict[str, tuple[int, int]] = {}
    with jobs.watch(group) as watch:
        yield f"retry: {_RECONNECT_MS}\n\n"
        while not jobs.closed:
            watch.clear()
            current = jobs.live(group) or await run_in_threadpool(jobs.of_group, artist_id, group)
            for job in current:
                if versions.get(job.id) != job.version:
                    previews, numbers = shown.get(job.id, (0, 0))
                    yield _event("job", job_event(job, after=previews, after_numbers=numbers))
                    versions[job.id], shown[job.id] = job.version, (len(job.previews), len(job.numbers))
            if all(job.settled for job in current):
                yield _event("end", {"group": group})
                return
            if not await watch.wait(_HEARTBEAT_S):
                yield ": still here\n\n"


def _event(name: str, content: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(content, ensure_ascii=False)}\n\n"


def job_event(job: Job, *, after: int, after_numbers: int) -> dict[str, object]:
    """Describe a job to its artist's page, with the previews and the numbers of steps that came since."""
    return {
        "id": job.id,
        "group": job.group,
        "index": job.index,
        "state": job.state,
        "ahead": job.ahead,
        "step": job.step,
        "steps": job.steps,
        "previews": job.previews[after:],
        "numbers": job.numbers[after_numbers:],
        "recipe": job.recipe.model_dump(mode="json"),
        "sentence": job.sentence,
        "notes": job.notes,
        "artwork": job.artwork,
        "timeline_ready": job.timeline_ready,
        "settled": job.settled,
        "repaints": job.repaints,
    }


def _add_pictures(app: FastAPI, studio: Studio) -> None:
    def allowed(request: Request, artwork_id: str, find: Callable[[str, str], Found]) -> Found:
        artist = _caller(studio, request)
        try:
            if not is_id(artwork_id):
                raise NotHers
            return find(artwork_id, artist.id)
        except NotHers as error:
            raise _not_hers(artist, error) from None

    def picture(artwork_id: str, request: Request, download: bool = False) -> Response:
        path = allowed(request, artwork_id, studio.gallery.file)
        name = f"atelier-{artwork_id[:8]}.png" if download else None
        return _file(request, path, "image/png", name)

    def timeline(artwork_id: str, request: Request) -> Response:
        return JSONResponse(allowed(request, artwork_id, studio.timeline), headers=_PRIVATE)

    def sheet(artwork_id: str, layer: str, request: Request) -> Response:
        path = allowed(request, artwork_id, lambda artwork, artist: studio.sheet(artwork, artist, layer))
        return _file(request, path, "image/webp")

    def heat(artwork_id: str, kind: str, request: Request, word: str = "") -> Response:
        content = allowed(
            request, artwork_id, lambda artwork, artist: studio.heat(artwork, artist, kind, word)
        )
        return Response(content, media_type="image/png", headers=_PRIVATE)

    app.add_api_route("/artworks/{artwork_id}.png", picture)
    app.add_api_route("/timelines/{artwork_id}", timeline)
    app.add_api_route("/timelines/{artwork_id}/{layer}.webp", sheet)
    app.add_api_route("/timelines/{artwork_id}/heat/{kind}.png", heat)

    @app.get("/timelines/{artwork_id}/export/{kind}")
    def export(  # pyright: ignore[reportUnusedFunction]
        artwork_id: str, kind: str, request: Request, layer: str = "denoised", fps: int = 12
    ) -> Response:
        content, way = allowed(
            request, artwork_id, lambda artwork, artist: studio.export(artwork, artist, kind, layer, fps)
        )
        name = f"atelier-{artwork_id[:8]}{way.suffix}"
        return Response(
            content,
            media_type=way.media_type,
            headers={**_PRIVATE, "Content-Disposition": f'attachment; filename="{name}"'},
        )


def _add_sources(app: FastAPI, studio: Studio) -> None:
    def told(source: KeptSource) -> Response:
        return JSONResponse({"source": source.key, "width": source.width, "height": source.height})

    async def bring(request: Request) -> Response:
        # A form on another site cannot send these content types without the browser asking here first.
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if not (kind.startswith("image/") or kind == "application/octet-stream"):
            return _refuse(415, "Send the picture's file as it is, as image/… or application/octet-stream.")
        most = studio.sources.max_bytes
        content = await _read_body(request, most)
        if not content and request.headers.get("content-length") != "0":
            return _refuse(413, f"This file is too large; {most / 1e6:g} MB is the most.", "image")
        artist = await run_in_threadpool(_caller, studio, request)
        return told(await run_in_threadpool(studio.sources.keep, artist.id, content))

    def bring_artwork(artwork_id: str, request: Request) -> Response:
        artist = _caller(studio, request)
        try:
            if not is_id(artwork_id):
                raise NotHers
            return told(studio.sources.keep_artwork(artist.id, artwork_id))
        except NotHers as error:
            raise _not_hers(artist, error) from None

    def source(key: str, request: Request) -> Response:
        artist = _caller(studio, request)
        try:
            return _file(request, studio.sources.file(key, artist.id), "application/octet-stream")
        except NotHers as error:
            raise _not_hers(artist, error) from None

    def dissolving(key: str, request: Request, seed: int) -> Response:
        artist = _caller(studio, request)
        try:
            return JSONResponse(studio.dissolving(key, artist.id, seed), headers=_PRIVATE)
        except NotHers as error:
            raise _not_hers(artist, error) from None

    def view(key: str, request: Request) -> Response:
        artist = _caller(studio, request)
        try:
            content = studio.sources.view(key, artist.id)
        except NotHers as error:
            raise _not_hers(artist, error) from None
        # Named by its content: it never changes.
        return Response(content, 200, {"Cache-Control": "private, max-age=31536000, immutable"}, "image/webp")

    def loras() -> Response:
        return JSONResponse({"loras": _told(studio.shelves.loras)}, headers=_PRIVATE)

    def ip_adapters() -> Response:
        return JSONResponse({"ip_adapters": _told(studio.shelves.ip_adapters)}, headers=_PRIVATE)

    app.add_api_route("/loras", loras)
    app.add_api_route("/ip_adapters", ip_adapters)
    app.add_api_route("/sources/{key}/view.webp", view)
    app.add_api_route("/sources", bring, methods=["POST"])
    app.add_api_route("/sources/from/{artwork_id}", bring_artwork, methods=["POST"])
    app.add_api_route("/sources/{key}", source)
    app.add_api_route("/sources/{key}/dissolving", dissolving)


def _told(shelf: Shelf) -> list[dict[str, str]]:
    return [
        {"name": file.name, "sha256": file.sha256, "refusal": file.refusal, "note": file.note}
        for file in shelf.files()
    ]


def _file(request: Request, path: Path, media_type: str, download_name: str | None = None) -> Response:
    """Send a private file, or say that the browser has it already."""
    response = FileResponse(path, 200, _PRIVATE, media_type, filename=download_name, stat_result=path.stat())
    if request.headers.get("if-none-match") == response.headers["etag"]:
        return NotModifiedResponse(response.headers)
    return response
