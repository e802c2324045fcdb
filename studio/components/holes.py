"""The inpainting desk: a picture with a mask over it, what should be there, and the fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from pipelines.palette import palette
from pipelines.picture_files import picture_size, read_mask
from pipelines.recipe import BadInput
from pipelines.regions import extended_size, hole_of, painted_size, region_of
from pipelines.sources import MAX_EXTEND_PX, MAX_FEATHER_PX, make_source, source_key
from studio.brushing import fitted_mask, keep_brushed, lay
from studio.components.artworks import cancel_on_request
from studio.components.branching import branching_samplers
from studio.components.identity import named_artist_of
from studio.components.mixing import list_presets, mix_from
from studio.components.script import Message, ServerFunction, scripted
from studio.tabs.prompt_to_image import recipe_for, recipes_from

if TYPE_CHECKING:
    from pipelines.recipe import Recipe
    from studio.studio import Studio

_FEATHER_PX = 8
_CHOICES = ("strength", "feather_px", "hole", "paste_back", "extend")
_FIELDS = ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "sampler", "seed")

_MARKUP = """
<section class="inpaint" data-view="empty" data-state="rest" aria-label="Inpainting">
  <form class="mixing inpaint-form" aria-label="Fill" novalidate></form>
  <div class="inpaint-easel">
    <div class="inpaint-board">
      <canvas class="inpaint-canvas" aria-label="The picture and its mask"></canvas>
      <div class="inpaint-empty">
        <h2>Change a part of a picture</h2>
        <p>Drop one here, paste it, or open one from the gallery with “Repaint a part”.</p>
        <button type="button" class="accent inpaint-choose">Choose a picture</button>
        <p class="inpaint-kinds">PNG, JPEG, WebP, AVIF, TIFF or HEIC, of any size</p>
      </div>
    </div>
    <div class="inpaint-bar"></div>
  </div>
</section>
"""


def inpainting_desk(studio: Studio) -> gr.HTML:
    """Build the desk; assets/js/inpaint.js paints the mask and follows the fills."""
    folder = studio.folder

    def cancel(message: Message, request: gr.Request) -> Message:
        return cancel_on_request(studio, message, request)

    return scripted(
        "inpaint",
        _MARKUP,
        elem_id="inpainting-desk",
        server=[_fill(studio), _brush_together(studio), _lay(studio), cancel, list_presets(studio)],
        told={
            "samplers": branching_samplers(folder),
            "defaults": folder.defaults.model_dump(),
            "feather_px": _FEATHER_PX,
            "most_px": MAX_EXTEND_PX,
            "most_feather_px": MAX_FEATHER_PX,
            "styles": [swatch.name for swatch in palette()],
        },
    )


def _fill(studio: Studio) -> ServerFunction:
    def fill(message: Message, request: gr.Request) -> Message:
        """Queue fills of the masked part; answers with their group and where they lie on the picture."""
        try:
            artist = named_artist_of(studio, request)
            image, mask = (
                studio.sources.file(str(message[name]), artist.id).read_bytes() if message.get(name) else None
                for name in ("image", "mask")
            )
            if image is None:
                raise BadInput("Bring a picture first.", "image")
            choices = {name: message[name] for name in _CHOICES if name in message}
            fitted = None if mask is None else fitted_mask(image, mask)
            begun = hole_fields(studio, artist.id, image, fitted, **choices)
            typed = {name: message[name] for name in _FIELDS if name in message}
            mix = mix_from(message["mix"], studio.shelves) if message.get("mix") else None
            recipe = recipe_for(studio.folder, **typed, **begun, mix=mix)
            group = studio.submit(artist.id, recipes_from(recipe, _count(message.get("pictures", 1))))
        except BadInput as error:
            return {"sentence": str(error), "field": error.field}
        except LookupError:
            return {"sentence": "The picture is no longer here: bring it once more.", "field": "image"}
        return {"group": group, "region": _part_of(studio, recipe)}

    return fill


def _brush_together(studio: Studio) -> ServerFunction:
    def brush_together(message: Message, request: gr.Request) -> Message:
        """Keep one fill with another brushed over it where a mask is white; answers with the new picture."""
        try:
            artist = named_artist_of(studio, request)
            under, over = (str(message.get(name, "")) for name in ("under", "over"))
            mask = studio.sources.file(str(message.get("mask", "")), artist.id).read_bytes()
            artwork = keep_brushed(studio, artist.id, under, over, mask)
        except BadInput as error:
            return {"sentence": str(error), "field": error.field}
        except LookupError:
            return {"sentence": "One of the fills is no longer here.", "field": "image"}
        return {"artwork": artwork}

    return brush_together


def _lay(studio: Studio) -> ServerFunction:
    def lay_fill(message: Message, request: gr.Request) -> Message:
        """Keep a fill with or without paste-back; answers with its `artwork`, or the `group` to follow."""
        try:
            artist = named_artist_of(studio, request)
            paste_back = message.get("paste_back") is True
            made = lay(studio, artist.id, str(message.get("artwork", "")), paste_back=paste_back)
        except BadInput as error:
            return {"sentence": str(error), "field": error.field}
        except LookupError:
            return {"sentence": "This fill is no longer here.", "field": "image"}
        if isinstance(made, str):
            return {"group": made}
        return {"artwork": made.id, "timeline_ready": made.has_timeline}

    return lay_fill


def hole_fields(
    studio: Studio, artist_id: str, image: bytes, mask: bytes | None, **choices: object
) -> dict[str, object]:
    """Keep a picture and its mask, and make the fields of a recipe that repaints a part.

    Args:
        studio: keeps them.
        artist_id: who brought them.
        image: the picture's file.
        mask: that of what is repainted; None where only what the picture grows by is painted.
        choices: the other fields of a `Source`.

    Raises:
        BadInput: with the sentence for the artist; also where nothing would be painted.
    """
    files = (image,) if mask is None else (image, mask)
    hole = None if mask is None else source_key(mask)
    source = make_source(image=source_key(image), mask=hole, **choices)
    if not source.in_part:
        raise BadInput("Paint over what should change first, or let the picture grow.", "mask")
    area, most = studio.folder.width * studio.folder.height, studio.sources.max_pixels
    width, height = painted_size(source, image, mask, area=area, max_pixels=most)
    for content in files:
        studio.sources.keep(artist_id, content)
    return {"source": source, "width": width, "height": height}


def _part_of(studio: Studio, recipe: Recipe) -> Message:
    """Tell which part of the picture, as it will have grown, is painted: as shares of its sides."""
    source = recipe.source
    assert source is not None
    most = studio.sources.max_pixels
    size = picture_size(studio.sources.open(source.image), max_pixels=most)
    mask = read_mask(studio.sources.open(source.mask), size, max_pixels=most) if source.mask else None
    width, height = whole = extended_size(size, source.extend)
    hole = hole_of(source, mask, size)
    region = region_of(hole, whole, context=source.context, width=recipe.width, height=recipe.height)
    return {
        "left": region.left / width,
        "top": region.top / height,
        "width": region.width / width,
        "height": region.height / height,
    }


def _count(typed: object) -> object:
    try:
        return int(str(typed))
    except ValueError:
        return typed
