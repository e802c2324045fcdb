"""Opening a kept timeline: what the scrubber is told of it, and what is gone of it, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.recipe import BadInput
from studio.timelines import DROPPED, LAST_STOP, LAYERS, MASK, Layer, sheet_for

if TYPE_CHECKING:
    from pipelines.timeline import Timeline

_DROPPED = "This timeline was dropped to make room for newer ones. The picture is kept."
_NONE = "There is no timeline of this picture here. The picture is kept."
_NUMBERS = "The numbers of this timeline (timeline.json) cannot be read, so nothing of it can be shown."
_NO_PICTURES = "The pictures of this timeline are missing or damaged."
_LAYERS: dict[Layer, str] = {"latents": "what is there", "denoised": "what the model sees"}
_NAMED_STEPS = 5


def open_timeline(folder: Path) -> Timeline:
    """Read a timeline of which there is enough to show.

    Raises:
        BadInput: with a sentence for the artist that says what is gone.
    """
    from pipelines.timeline import read_timeline

    if (folder / DROPPED).exists():
        raise BadInput(_DROPPED, "timeline")
    if not (folder / "timeline.json").exists():
        raise BadInput(_NONE, "timeline")
    try:
        timeline = read_timeline(folder)
    except BadInput:
        raise BadInput(_NUMBERS, "timeline") from None
    if not timeline.steps or not whole_layers(folder):
        raise BadInput(_NO_PICTURES, "timeline")
    return timeline


def describe_timeline(folder: Path, artwork_id: str) -> dict[str, object]:
    """Describe a finished timeline to the scrubber: its recipe, steps, tiles and where its sheets are.

    Only the layers that are whole are listed; `gone` says in sentences what is missing of the timeline.

    Raises:
        BadInput: nothing of it can be shown.
    """
    timeline = open_timeline(folder)
    recipe = timeline.recipe
    sheet = sheet_for(len(timeline.steps), width=recipe.width, height=recipe.height)
    return {
        "artwork": artwork_id,
        "recipe": recipe.model_dump(mode="json"),
        "steps": [step.model_dump() for step in timeline.steps],
        "tile": {"width": sheet.tile_width, "height": sheet.tile_height},
        "columns": sheet.columns,
        "count": sheet.count,
        "layers": {layer: f"/timelines/{artwork_id}/{layer}.webp" for layer in whole_layers(folder)},
        "picture": _last_stop(folder, artwork_id),
        "mask": f"/timelines/{artwork_id}/{MASK}" if (folder / MASK).exists() else None,
        "gone": damages(timeline),
    }


def _last_stop(folder: Path, artwork_id: str) -> str:
    """Where the finished picture is: of one that was repainted in part, that part."""
    part = (folder / LAST_STOP).exists()
    return f"/timelines/{artwork_id}/{LAST_STOP}" if part else f"/artworks/{artwork_id}.png"


def whole_layers(folder: Path) -> list[Layer]:
    """List the layers whose sheet is there and not cut."""
    return [layer for layer in LAYERS if _is_whole_webp(folder / f"{layer}.webp")]


def damages(timeline: Timeline) -> list[str]:
    """Say what is gone of a timeline that can still be shown; nothing when it is whole."""
    whole = whole_layers(timeline.folder)
    gone = [
        f"The pictures of {_LAYERS.get(layer, layer)} are missing or damaged."
        for layer in LAYERS
        if layer not in whole
    ]
    if steps := timeline.damaged():
        gone.append(
            f"{_named(steps)} missing or damaged: a branch has to paint the steps before it once more."
        )
    return gone


def _named(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"The latents of step {steps[0] + 1} are"
    if len(steps) > _NAMED_STEPS:
        return f"The latents of {len(steps)} steps are"
    first = ", ".join(str(step + 1) for step in steps[:-1])
    return f"The latents of steps {first} and {steps[-1] + 1} are"


def _is_whole_webp(file: Path) -> bool:
    """Compare a WebP's size with what its header says: RIFF, the size of the rest, WEBP."""
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
        size = file.stat().st_size
    except OSError:
        return False
    rest = int.from_bytes(head[4:8], "little")
    return head[:4] == b"RIFF" and head[8:] == b"WEBP" and rest + 8 == size
