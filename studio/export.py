"""A timeline to take away: an animation, a video, a filmstrip, or every frame with its numbers."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from PIL import Image

from pipelines.recipe import BadInput
from studio.opening import describe_timeline, open_timeline
from studio.timelines import Layer, sheet_for

MIN_FPS, MAX_FPS = 1, 60
_LAST_HELD_S = 1.5
# A picture of 192 pixels is a stamp in a video player: whole multiples keep it crisp.
_VIDEO_SIDE_PX = 640
_STRIP_COLUMNS = 10
_STRIP_GAP_PX = 4
_STRIP_GROUND = (22, 20, 18)


@dataclass(frozen=True, slots=True)
class Reel:
    """A timeline's pictures of one layer, from noise to the finished picture, and what it says of itself."""

    frames: list[Image.Image]
    told: dict[str, object]


def read_reel(folder: Path, artwork_id: str, picture: Path, layer: Layer) -> Reel:
    """Cut a layer's sheet into its frames, and add the finished picture as the last.

    Raises:
        BadInput: the timeline is damaged.
    """
    timeline = open_timeline(folder)
    recipe, count = timeline.recipe, len(timeline.steps)
    sheet = sheet_for(count, width=recipe.width, height=recipe.height)
    try:
        with Image.open(folder / f"{layer}.webp") as image:
            tiles = image.convert("RGB")
        with Image.open(picture) as image:
            finished = image.convert("RGB")
    except OSError:
        raise BadInput("The pictures of this timeline are missing or damaged.", "timeline") from None
    frames: list[Image.Image] = []
    for tile in range(count):
        left, top = sheet.place(tile)
        frames.append(tiles.crop((left, top, left + sheet.tile_width, top + sheet.tile_height)))
    size = (sheet.tile_width, sheet.tile_height)
    last = finished if finished.size == size else finished.resize(size, Image.Resampling.LANCZOS)
    return Reel([*frames, last], describe_timeline(folder, artwork_id))


def export_webp(reel: Reel, fps: int) -> bytes:
    """Write an animated WebP that loops."""
    return _animation(reel, fps, "WEBP", quality=90)


def export_gif(reel: Reel, fps: int) -> bytes:
    """Write an animated GIF that loops; its 256 colours are chosen anew for each frame."""
    return _animation(reel, fps, "GIF", optimize=False)


def _animation(reel: Reel, fps: int, kind: str, **options: object) -> bytes:
    durations = [round(1000 / fps)] * len(reel.frames)
    durations[-1] = round(1000 * _LAST_HELD_S)
    stream = io.BytesIO()
    first, *rest = reel.frames
    first.save(stream, kind, save_all=True, append_images=rest, duration=durations, loop=0, **options)
    return stream.getvalue()


def export_mp4(reel: Reel, fps: int) -> bytes:
    """Write an H.264 video (yuv420p, playable everywhere), enlarged by a whole factor where it is small."""
    import av

    width, height = reel.frames[0].size
    factor = max(1, _VIDEO_SIDE_PX // max(width, height))
    # yuv420p halves the colour planes, so sides must be even.
    size = (width * factor // 2 * 2, height * factor // 2 * 2)
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=Fraction(fps))
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.options = {"crf": "16"}
        for picture in [*reel.frames, *reel.frames[-1:] * round(_LAST_HELD_S * fps)]:
            frame = av.VideoFrame.from_image(picture.resize(size, Image.Resampling.LANCZOS))
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return stream.getvalue()


def export_filmstrip(reel: Reel, fps: int) -> bytes:
    """Write all frames on one PNG, row by row from the left."""
    del fps
    width, height = reel.frames[0].size
    columns = min(_STRIP_COLUMNS, len(reel.frames))
    rows = -(-len(reel.frames) // columns)
    step_x, step_y = width + _STRIP_GAP_PX, height + _STRIP_GAP_PX
    strip = Image.new("RGB", (columns * step_x + _STRIP_GAP_PX, rows * step_y + _STRIP_GAP_PX), _STRIP_GROUND)
    for number, frame in enumerate(reel.frames):
        row, column = divmod(number, columns)
        strip.paste(frame, (column * step_x + _STRIP_GAP_PX, row * step_y + _STRIP_GAP_PX))
    return _png(strip)


def export_zip(reel: Reel, fps: int) -> bytes:
    """Write every frame as a PNG, and `timeline.json` with the recipe and every step's numbers."""
    del fps
    stream = io.BytesIO()
    numbers = {"recipe": reel.told["recipe"], "steps": reel.told["steps"]}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for number, frame in enumerate(reel.frames[:-1]):
            archive.writestr(f"step-{number:03d}.png", _png(frame))
        archive.writestr("finished.png", _png(reel.frames[-1]))
        archive.writestr("timeline.json", json.dumps(numbers, indent=1, ensure_ascii=False))
    return stream.getvalue()


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Export:
    """One way to take a timeline away."""

    write: Callable[[Reel, int], bytes]
    media_type: str
    suffix: str


EXPORTS: dict[str, Export] = {
    "webp": Export(export_webp, "image/webp", ".webp"),
    "gif": Export(export_gif, "image/gif", ".gif"),
    "mp4": Export(export_mp4, "video/mp4", ".mp4"),
    "filmstrip": Export(export_filmstrip, "image/png", "-filmstrip.png"),
    "zip": Export(export_zip, "application/zip", ".zip"),
}


def check_export(kind: str, fps: int) -> Export:
    """Find a way to export.

    Raises:
        BadInput: no such way, or a speed that no player keeps.
    """
    if kind not in EXPORTS:
        raise BadInput(f"A timeline can be taken away as {', '.join(EXPORTS)}, not {kind}.", "kind")
    if not MIN_FPS <= fps <= MAX_FPS:
        raise BadInput(f"Frames a second must be from {MIN_FPS} to {MAX_FPS}, not {fps}.", "fps")
    return EXPORTS[kind]
