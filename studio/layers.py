"""Layers that lie over a timeline's pictures: heat, drawn when it is asked for, as one sheet of tiles."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from pipelines.recipe import BadInput
from studio.opening import open_timeline
from studio.timelines import Sheet, sheet_for

if TYPE_CHECKING:
    from pipelines.attention import Attention, Looks
    from pipelines.heat import Heat
    from pipelines.models.sd import StableDiffusion
    from pipelines.sources import OpenSource
    from pipelines.timeline import Timeline

HEATS = ("change", "guidance", "style", "attention")
# Heat is drawn larger than the latents it comes from, to look smooth, and no larger than it must be.
_ENLARGED = 4
_MAX_TILE_PX = 128


class Layers:
    """Draws heat; what words were looked for is found out once for each timeline, one timeline at a time."""

    def __init__(self, ready_model: Callable[[], StableDiffusion], open_source: OpenSource) -> None:
        self._ready_model = ready_model
        self._open_source = open_source
        self._looking = threading.Lock()
        self._attention: Attention | None = None

    def draw(self, folder: Path, kind: str, word: str) -> bytes:
        """Draw a timeline's heat as a grey PNG, a tile a step and one more for the whole run.

        The tiles lie in as many columns as those of the timeline's own sheets. `word` is of its prompt, for
        the kind "attention", or the name of a style of its mix, for the kind "style".

        Raises:
            BadInput: no such kind or word, nothing is known, or the timeline is damaged.
        """
        from pipelines.heat import (
            beside_other_styles,
            change_heat,
            guidance_heat,
            mean_heat,
            over_run,
            style_heat,
            within_step,
        )

        timeline = open_timeline(folder)
        match kind:
            case "change":
                heat, scaled = change_heat(timeline), over_run
            case "guidance":
                heat, scaled = guidance_heat(timeline), over_run
            case "style":
                heat, scaled = style_heat(timeline, word), beside_other_styles(timeline)
            case "attention":
                heat, scaled = self._attention_to(word, timeline), within_step
            case _:
                raise BadInput(f"Heat is known of {', '.join(HEATS)}, not of {kind}.", "kind")
        return _draw(timeline, [*scaled(heat), *scaled([mean_heat(heat)])])

    def _attention_to(self, word: str, timeline: Timeline) -> Heat:
        from pipelines.attention import tokens_of, word_heat

        model = self._ready_model()
        if timeline.recipe.model_revision != model.folder.revision:
            raise BadInput(
                f"This picture was painted by {timeline.recipe.model}; only that model can tell what it "
                f"looked at, and this studio has {model.folder.name}.",
                "model",
            )
        if not any(tokens_of(model, member.prompt, word) for member in timeline.recipe.lineage()):
            raise BadInput(f"The prompt of this picture has no word “{word}” that the model reads.", "word")
        return word_heat(model, timeline, self._looks(model, timeline), word)

    def _looks(self, model: StableDiffusion, timeline: Timeline) -> Looks:
        from pipelines.attention import Attention, read_looks

        file = timeline.folder / "attention.safetensors"
        with self._looking:
            looks = read_looks(file)
            if looks is None:
                self._attention = self._attention or Attention(model)
                looks = self._attention.look_again(timeline, self._open_source)
                looks.save(file)
        return looks


def heat_sheet(timeline: Timeline) -> Sheet:
    """Lay out the tiles of a timeline's heat."""
    recipe, count = timeline.recipe, len(timeline.steps)
    columns = sheet_for(count, width=recipe.width, height=recipe.height).columns
    longest = max(recipe.width, recipe.height)
    scale = min(_ENLARGED / 8, _MAX_TILE_PX / longest)
    return Sheet(
        count + 1, columns, max(1, round(recipe.width * scale)), max(1, round(recipe.height * scale))
    )


def _draw(timeline: Timeline, heat: Heat) -> bytes:
    from pipelines.heat import enlarged

    sheet = heat_sheet(timeline)
    tiles = (enlarged(heat, width=sheet.tile_width, height=sheet.tile_height) * 255).round().byte().numpy()
    image = Image.new("L", sheet.size)
    for tile, grey in enumerate(tiles):
        image.paste(Image.fromarray(grey), sheet.place(tile))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
