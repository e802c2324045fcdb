"""The inpainting desk: a picture with a mask over it, what should be there, and the fills."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gradio as gr
from PIL import Image

from pipelines.picture_files import picture_size, read_mask
from pipelines.recipe import BadInput
from pipelines.regions import hole_box, painted_size, region_of
from pipelines.sources import make_source, source_key
from studio.components.artworks import cancel_on_request
from studio.components.branching import branching_samplers
from studio.components.identity import named_artist_of
from studio.components.script import Message, ServerFunction, scripted
from studio.tabs.prompt_to_image import recipe_for, recipes_from

if TYPE_CHECKING:
    from pipelines.recipe import Recipe
    from studio.studio import Studio

_FEATHER_PX = 8
_CHOICES = ("strength", "feather_px", "hole", "paste_back")
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
        server=[_fill(studio), cancel],
        told={
            "samplers": branching_samplers(folder),
            "defaults": folder.defaults.model_dump(),
            "feather_px": _FEATHER_PX,
        },
    )


def _fill(studio: Studio) -> ServerFunction:
    def fill(message: Message, request: gr.Request) -> Message:
        """Queue fills of the masked part; answers with their group and where they lie on the picture."""
        try:
            artist = named_artist_of(studio, request)
            image, mask = (
                studio.sources.file(str(message.get(name, "")), artist.id).read_bytes()
                for name in ("image", "mask")
            )
            choices = {name: message[name] for name in _CHOICES if name in message}
            begun = hole_fields(studio, artist.id, [image, fitted_mask(image, mask)], **choices)
            typed = {name: message[name] for name in _FIELDS if name in message}
            recipe = recipe_for(studio.folder, **typed, **begun)
            group = studio.submit(artist.id, recipes_from(recipe, _count(message.get("pictures", 1))))
        except BadInput as error:
            return {"sentence": str(error), "field": error.field}
        except LookupError:
            return {"sentence": "The picture is no longer here: bring it once more.", "field": "image"}
        return {"group": group, "region": _part_of(studio, recipe)}

    return fill


def hole_fields(
    studio: Studio, artist_id: str, files: Sequence[bytes], **choices: object
) -> dict[str, object]:
    """Keep a picture and its mask, and make the fields of a recipe that repaints what the mask covers.

    Args:
        studio: keeps them.
        artist_id: who brought them.
        files: the picture's and the mask's.
        choices: the other fields of a `Source`.

    Raises:
        BadInput: with the sentence for the artist.
    """
    image, mask = files
    source = make_source(image=source_key(image), mask=source_key(mask), **choices)
    area = studio.folder.width * studio.folder.height
    width, height = painted_size(image, mask, feather_px=source.feather_px, area=area)
    for content in files:
        studio.sources.keep(artist_id, content)
    return {"source": source, "width": width, "height": height}


def fitted_mask(image: bytes, mask: bytes) -> bytes:
    """Bring a mask that was painted on a smaller view to the picture's own size.

    Raises:
        BadInput: nothing is painted over, or one of them cannot be opened.
    """
    size = picture_size(image)
    painted = read_mask(mask, None)
    if painted.getbbox() is None:
        raise BadInput("Paint over what should change first.", "mask")
    if painted.size == size:
        return mask
    stream = io.BytesIO()
    painted.resize(size, Image.Resampling.BILINEAR).save(stream, "PNG")
    return stream.getvalue()


def _part_of(studio: Studio, recipe: Recipe) -> Message:
    """Tell which part of the picture is painted, as shares of its sides."""
    assert recipe.source is not None
    assert recipe.source.mask is not None
    size = picture_size(studio.sources.open(recipe.source.image))
    hole = hole_box(read_mask(studio.sources.open(recipe.source.mask), size), recipe.source.feather_px)
    region = region_of(hole, size, context=recipe.source.context, width=recipe.width, height=recipe.height)
    return {
        "left": region.left / size[0],
        "top": region.top / size[1],
        "width": region.width / size[0],
        "height": region.height / size[1],
    }


def _count(typed: object) -> object:
    try:
        return int(str(typed))
    except ValueError:
        return typed
