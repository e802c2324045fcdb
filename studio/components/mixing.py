"""The mixing desk: styles on a palette, how much of each, how they are mixed, and mixes kept by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import gradio as gr

from pipelines.palette import make_mix, palette, read_sheet
from pipelines.recipe import BadInput, Recipe
from pipelines.series import KINDS, Axis, Cell, grid, read_axis, strip, triangle
from pipelines.sources import Source, make_source
from pipelines.styles import MAX_LORA_WEIGHT, MAX_LORAS, MAX_REFERENCES, MAX_STEER, MAX_STYLES, Mix
from studio.components.identity import artist_of, named_artist_of
from studio.components.script import Message, ServerFunction, scripted
from studio.tabs.prompt_to_image import recipe_for, recipes_from

if TYPE_CHECKING:
    from pipelines.models.find import ModelFolder
    from pipelines.models.shelves import Shelves
    from studio.presets import Preset
    from studio.studio import Studio

_FIELDS = (
    "prompt",
    "negative_prompt",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "sampler",
    "seed",
)

_MARKUP = """
<form class="mixing" aria-label="Style blending" novalidate></form>
"""
_TIME_MARKUP = """
<section class="overtime" aria-label="Styles over time"></section>
"""


def mixing(studio: Studio) -> gr.HTML:
    """Build the desk; assets/js/blend.js fills it and says over the page's desk which group is painted."""
    folder = studio.folder
    return scripted(
        "blend",
        _MARKUP,
        elem_id="mixing",
        server=[_paint(studio), list_presets(studio), *_keeping(studio)],
        told={
            **mixable(folder),
            "formats": [
                {"name": known.name, "width": known.width, "height": known.height} for known in folder.formats
            ],
            "samplers": list(folder.samplers),
            "defaults": folder.defaults.model_dump(),
            "axes": [{"kind": kind, "name": name} for kind, name in KINDS.items()],
        },
    )


def mixable(folder: ModelFolder) -> Message:
    """Tell what a mix can be made of, as assets/js/mix.js wants to know it."""
    return {
        "palette": [swatch.model_dump() for swatch in palette()],
        "most": MAX_STYLES,
        "mostFollowed": MAX_REFERENCES,
        "mostSteer": MAX_STEER,
        "mostLoras": MAX_LORAS,
        "mostLora": MAX_LORA_WEIGHT,
        "steers": list(folder.classifier.styles) if folder.classifier is not None else [],
    }


def overtime() -> gr.HTML:
    """Build the panel where the weight of each style is drawn over the steps."""
    return scripted("overtime", _TIME_MARKUP, elem_id="overtime")


def beginnings() -> list[Message]:
    """Describe the mixes to begin from, for the empty stage."""
    return [
        {
            "prompt": beginning.prompt,
            "seed": str(beginning.seed),
            "mix": beginning.mix.model_dump(),
            "thumbnail": beginning.thumbnail,
            "label": f"{beginning.prompt}: {' and '.join(beginning.styles)}",
        }
        for beginning in read_sheet().beginning
    ]


def mix_from(message: object, shelves: Shelves) -> Mix:
    """Read the mix that the desk or a program sends.

    It is `{"method", "styles": [{"name", "weight", …}]}`, and where she wants them `"references": [{"image",
    "strength"}]`, of which one may have an `"ip_adapter": {"name"}`, the strength of `"steer"` and `"loras":
    [{"name", "weight"}]`. A file that was kept before has its `"sha256"` too.

    Raises:
        BadInput: with the sentence for the artist.
    """
    fields = message if isinstance(message, Mapping) else {}
    chosen = _listed(fields.get("styles"))
    references = shelves.ip_adapters.followed_through(_listed(fields.get("references")))
    added = shelves.loras.chosen(_listed(fields.get("loras")))
    if not chosen and not references and not added:
        raise BadInput("Choose at least one style from the palette.", "mix")
    method = str(fields.get("method", "conditioning"))
    return make_mix(chosen, method, references=references, steer=fields.get("steer") or 0, loras=added)


def _listed(message: object) -> list[Mapping[str, object]]:
    found = message if isinstance(message, Sequence) and not isinstance(message, str) else []
    return [one for one in found if isinstance(one, Mapping)]


def _paint(studio: Studio) -> ServerFunction:
    def paint(message: Message, request: gr.Request) -> Message:
        try:
            artist = named_artist_of(studio, request)
            fields = {name: message[name] for name in _FIELDS if name in message}
            mix, source = mix_from(message.get("mix"), studio.shelves), _source(message.get("source"))
            recipe = recipe_for(studio.folder, **fields, mix=mix, source=source)
            kind, cells = str(message.get("view", "one")), list[Cell]()
            if kind == "one":
                recipes = recipes_from(recipe, message.get("pictures", 1))
            else:
                cells = _cells(kind, recipe, message)
                recipes = [cell.recipe for cell in cells]
            group = studio.submit(artist.id, recipes)
        except BadInput as error:
            return {"sentence": str(error), "field": error.field}
        layout = [{"label": cell.label, "row": cell.row, "column": cell.column} for cell in cells]
        return {"group": group, "layout": layout or None}

    return paint


def _source(message: object) -> Source | None:
    """Read the picture that is restyled: `{"image", "strength"}`, or nothing."""
    if not isinstance(message, Mapping):
        return None
    return make_source(image=message.get("image"), strength=message.get("strength"))


def _cells(kind: str, recipe: Recipe, message: Message) -> list[Cell]:
    match kind:
        case "strip":
            return strip(recipe)
        case "triangle":
            return triangle(recipe)
        case "grid":
            across, down = (_axis(message.get(side)) for side in ("across", "down"))
            return grid(recipe, across, down)
        case _:
            raise BadInput(f"A mix is seen as one, strip, triangle or grid, not as {kind}.", "view")


def _axis(typed: object) -> Axis:
    fields = typed if isinstance(typed, Mapping) else {}
    return read_axis(*(str(fields.get(name, "")) for name in ("kind", "values", "style")))


def list_presets(studio: Studio) -> ServerFunction:
    """Make what tells a desk the mixes that its artist has kept."""

    def list_presets(_message: Message, request: gr.Request) -> Message:
        artist = artist_of(studio, request)
        return {"presets": [_told(studio, one) for one in studio.presets.of(artist.id)] if artist else []}

    return list_presets


def _keeping(studio: Studio) -> list[ServerFunction]:
    listed = list_presets(studio)

    def save_preset(message: Message, request: gr.Request) -> Message:
        try:
            artist = named_artist_of(studio, request)
            artwork = str(message["artwork"]) if message.get("artwork") else None
            if artwork is not None:
                studio.gallery.get(artwork, artist.id)
            mix = mix_from(message.get("mix"), studio.shelves)
            for reference in mix.references:
                studio.sources.file(reference.image, artist.id)
            studio.presets.save(artist.id, str(message.get("name", "")), mix, artwork)
        except BadInput as error:
            return {"sentence": str(error), "field": error.field}
        except LookupError as error:
            return {"sentence": str(error), "field": ""}
        return listed({}, request)

    def delete_preset(message: Message, request: gr.Request) -> Message:
        try:
            studio.presets.delete(named_artist_of(studio, request).id, str(message.get("id", "")))
        except (BadInput, LookupError) as error:
            return {"sentence": str(error), "field": ""}
        return listed({}, request)

    return [save_preset, delete_preset]


def _told(studio: Studio, preset: Preset) -> Message:
    shown = preset.artwork is not None and studio.gallery.has(preset.artwork)
    return {
        "id": preset.id,
        "name": preset.name,
        "mix": preset.mix.model_dump(),
        "artwork": preset.artwork if shown else None,
    }
