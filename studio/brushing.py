"""Masks that were painted by hand, two fills brushed into one, and a fill laid into its picture otherwise."""

from __future__ import annotations

import io
import uuid
from typing import TYPE_CHECKING

from PIL import Image

from pipelines.picture_files import BOMB_PIXELS, laid_over, picture_size, read_mask, read_picture
from pipelines.recipe import BadInput, Recipe
from studio.sentences import refusing_when_full

if TYPE_CHECKING:
    from studio.gallery import Artwork
    from studio.studio import Studio


def keep_brushed(studio: Studio, artist_id: str, under: str, over: str, mask: bytes) -> str:
    """Keep a fill with another one laid over it, as a picture whose recipe says both.

    The recipe is that of the fill below, and names the file of the other and the mask: replayed, it paints
    the one and lays the other over it.

    Args:
        studio: keeps it.
        artist_id: whose picture it becomes.
        under: the id of the fill below.
        over: the id of the fill that is laid over it.
        mask: a picture that is white where that one shows.

    Returns:
        The id of the new picture. It has no timeline of its own: nothing was denoised.

    Raises:
        NotHers: she may not see one of them.
        BadInput: they are not fills of one picture, one is brushed together already, or the disk is full.
    """
    recipe = studio.gallery.get(under, artist_id).recipe
    source = recipe.source
    if source is None or not source.in_part or source.over is not None or recipe.branch is not None:
        raise BadInput("Only a fill can have another brushed over it, and only one.", "image")
    below, above = (studio.gallery.file(fill, artist_id).read_bytes() for fill in (under, over))
    fitted = fitted_mask(below, mask)
    picture = read_picture(below, max_pixels=BOMB_PIXELS)
    brushed = laid_over(
        picture,
        read_picture(above, max_pixels=BOMB_PIXELS),
        read_mask(fitted, picture.size, max_pixels=BOMB_PIXELS),
    )
    keys = [studio.sources.keep(artist_id, content).key for content in (above, fitted)]
    changed = {"over": keys[0], "over_mask": keys[1]}
    artwork_id = uuid.uuid4().hex
    with refusing_when_full():
        kept = recipe.model_copy(update={"source": source.model_copy(update=changed)})
        studio.gallery.keep(artwork_id, artist_id, kept, brushed)
    return artwork_id


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


def laid(recipe: Recipe, *, paste_back: bool) -> Recipe | None:
    """Return the recipe of a fill that is fitted into its picture, or left as the model painted it.

    Both are painted by the very same steps. None where nothing is laid into a picture.
    """
    if recipe.source is None or not recipe.source.in_part:
        return None
    return recipe.model_copy(update={"source": recipe.source.model_copy(update={"paste_back": paste_back})})


def lay(studio: Studio, artist_id: str, artwork_id: str, *, paste_back: bool) -> Artwork | str:
    """Keep a fill once more, fitted into its picture or as the model painted it.

    Returns:
        Such a picture where she has it already, else the id of the group that makes it. No step is painted
        again as long as the fill has its timeline.

    Raises:
        NotHers: she may not see the fill.
        BadInput: it is no fill, or the disk is full.
    """
    recipe = laid(studio.gallery.get(artwork_id, artist_id).recipe, paste_back=paste_back)
    if recipe is None or recipe.branch is not None:
        raise BadInput("Only a fill is laid into a picture.", "image")
    return studio.gallery.painted_for(recipe, artist_id) or studio.submit(artist_id, [recipe])
