"""Latents become pictures: to be kept, so that the same pixels can be had again, or to be looked at, quickly.

A compiled decoder rounds otherwise than torch's own and, as the network does, by how many it is given. So it
has two sizes of call, one picture and as many as go at once, and a kept picture names the one it came from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from pipelines.calls import Call
from pipelines.latents import to_images
from pipelines.models.sd import StableDiffusion

# Decoded at once on an accelerator: enough to be quick on small pictures, without a memory peak on large
# ones. On a CPU a picture takes the same time alone, and alone keeps live previews waiting least.
_AT_ONCE = 8
_AT_ONCE_PX = 4 * 512 * 512


def decoded_at_once(device: str, *, width: int, height: int) -> int:
    """How many pictures of this size in pixels are decoded in one call on a kind of device."""
    return 1 if device == "cpu" else max(1, min(_AT_ONCE, _AT_ONCE_PX // (width * height)))


def decode_looks(model: StableDiffusion, latents: Sequence[Tensor]) -> list[Image.Image]:
    """Decode latents, each (1, C, h, w), to be looked at and not kept: together, by whatever is quick."""
    images: list[Image.Image] = []
    for few in _in_calls(model, latents):
        compiled = _compiled(model, few, looks=True)
        images += to_images(_by_torch(model, few) if compiled is None else compiled[0])
    return images


def decode_kept(
    model: StableDiffusion, latents: Sequence[Tensor], decoder: Call | None = None
) -> list[tuple[Image.Image, Call]]:
    """Decode latents, each (1, C, h, w), to be kept, and tell by which call of a decoder each was.

    Without a `decoder` by the compiled one where it is ready, together; else by torch's own, each alone. A
    picture that is painted again names the one it was decoded by.
    """
    decoded: list[tuple[Image.Image, Call]] = []
    for few in _in_calls(model, latents):
        engine = "compiled" if decoder is None else decoder.engine
        compiled = _compiled(model, few, decoder=decoder) if engine == "compiled" else None
        if compiled is not None:
            pixels, size = compiled
            decoded += [(image, Call("compiled", size)) for image in to_images(pixels)]
            continue
        # OpenVINO's pictures in the network's precision, as it is half of the time.
        decode = model.preview if engine == "openvino" else model.decode
        by = Call("openvino" if engine == "openvino" else "eager", 1)
        decoded += [(to_images(decode(one.to(model.device)))[0], by) for one in few]
    return decoded


def _in_calls(model: StableDiffusion, latents: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """Take latents of one size apart into as many as are decoded at once."""
    most = _most(model, latents[0]) if latents else 1
    return [latents[start : start + most] for start in range(0, len(latents), most)]


def _most(model: StableDiffusion, latents: Tensor) -> int:
    height, width = (model.vae_scale_factor * side for side in latents.shape[-2:])
    return decoded_at_once(model.device.type, width=width, height=height)


def _compiled(
    model: StableDiffusion, few: Sequence[Tensor], *, looks: bool = False, decoder: Call | None = None
) -> tuple[Tensor, int] | None:
    """Decode by the compiled decoder, and tell of how many a call is; None where it is not ready.

    Where fewer than half would fill a call they are decoded one by one.
    """
    if model.compiled is None:
        return None
    most = _most(model, few[0])
    size = decoder.rows if decoder is not None else most if 2 * len(few) > most else 1
    pixels: list[Tensor] = []
    for start in range(0, len(few), size):
        part = few[start : start + size]
        decoded = model.compiled.decode(_filled(model, part, size), looks=looks)
        if decoded is None:
            return None
        pixels.append(decoded[: len(part)])
    return torch.cat(pixels), size


def _by_torch(model: StableDiffusion, few: Sequence[Tensor]) -> Tensor:
    """Decode to be looked at, on an accelerator in calls of a few sizes: its libraries prepare for each."""
    count = len(few)
    size = count if model.device.type == "cpu" else 1 << (count - 1).bit_length()
    return model.preview(_filled(model, few, size))[:count]


def _filled(model: StableDiffusion, few: Sequence[Tensor], size: int) -> Tensor:
    """Join latents and fill them up to a size with the last of them."""
    return torch.cat([*few, *[few[-1]] * (size - len(few))]).to(model.device)
