"""A picture that dissolves, as the scrubber shows it: its forward process in pixels and in latents."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from PIL import Image

from pipelines.picture_files import fit_picture, fitted_size, read_picture
from pipelines.samplers import SAMPLERS
from studio.timelines import Sheet, sheet_for, webp_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.models.find import ModelFolder
    from pipelines.models.sd import StableDiffusion


def describe_dissolving(model: StableDiffusion, content: bytes, *, seed: int) -> dict[str, object]:
    """Describe to the scrubber how a picture dissolves, along the schedule of the model's default settings.

    Args:
        model: whose schedule and latents they are.
        content: the picture's file; it is shown in its own shape, in the model's usual number of pixels.
        seed: of the noise. A run with this seed that begins from the picture takes over where it is.

    Returns:
        As `describe_timeline`, with the sheets and the picture as data URLs: "denoised" is the dissolving
        picture in pixels, "latents" what its latents look like. Nothing of it is kept.

    Raises:
        BadInput: it is not a picture.
    """
    from pipelines.decoding import decode_looks
    from pipelines.forward_process import dissolve
    from pipelines.latents import to_images

    folder = model.folder
    image = _fitted(content, folder)
    sampler, count = way_back(folder), folder.defaults.num_inference_steps
    gone = dissolve(model, image, sampler=sampler, num_inference_steps=count, seed=seed)
    sheet = sheet_for(len(gone.stops), width=image.width, height=image.height)
    return {
        "recipe": {
            "width": image.width,
            "height": image.height,
            "sampler": sampler,
            "num_inference_steps": count,
            "guidance_scale": folder.defaults.guidance_scale,
            "seed": str(seed),
        },
        "steps": [
            {"step": step, "timestep": stop.timestep, "sigma": stop.sigma}
            for step, stop in enumerate(gone.stops)
        ],
        "tile": {"width": sheet.tile_width, "height": sheet.tile_height},
        "columns": sheet.columns,
        "count": sheet.count,
        "layers": {
            "denoised": _sheet_url(sheet, to_images(gone.pixels)),
            "latents": _sheet_url(sheet, decode_looks(model, gone.latents.split(1))),
        },
        "picture": _data_url(_png(image), "image/png"),
    }


def way_back(folder: ModelFolder) -> str:
    """Name the sampler whose schedule is followed: one that can begin where the picture was left."""
    default = folder.defaults.sampler
    return default if SAMPLERS[default].begins_midway else "DDIM"


def _fitted(content: bytes, folder: ModelFolder) -> Image.Image:
    picture = read_picture(content).rgb()
    return fit_picture(picture, *fitted_size(picture.size, area=folder.width * folder.height))


def _sheet_url(sheet: Sheet, pictures: Sequence[Image.Image]) -> str:
    image = Image.new("RGB", sheet.size)
    for tile, picture in enumerate(pictures):
        fitted = fit_picture(picture, sheet.tile_width, sheet.tile_height)
        image.paste(fitted, sheet.place(tile))
    return _data_url(webp_bytes(image), "image/webp")


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _data_url(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
