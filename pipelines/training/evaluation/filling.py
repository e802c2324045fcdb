"""Holes in held-out paintings, filled: is a seam seen, and are colours and style near what was there?"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipelines.latents import to_images, to_pixels
from pipelines.models.find import ModelFolder
from pipelines.models.load import load_model
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint
from pipelines.recipe import BadInput, Recipe, make_recipe
from pipelines.sources import make_source, open_among, source_key
from pipelines.stitching import feathered, stitch
from pipelines.training.evaluation.judge import (
    TOY_NETWORK,
    NetworkSize,
    agreement,
    load_or_train_judge,
    own_probabilities,
    style_probabilities,
)
from pipelines.training.evaluation.metrics import frechet_distance
from pipelines.training.evaluation.network import held_out
from pipelines.training.pack import Row, prepare_pack
from pipelines.training.pictures import PictureBank
from pipelines.training.sheets import save_sheet

FEATHER_PX = 8
"""As the inpainting tab has it by default."""

_PAINTED = ("painting", "ukiyo-e")
_OURS = "Atelier"
_ORIGINAL = "untouched"
# Linear sRGB to cone responses, and their cube roots to lightness and two colours (Ottosson 2020, Oklab).
_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)

Figures = dict[str, float]


@dataclass(frozen=True)
class Painting:
    """A held-out painting (height, width, 3) uint8 with its caption, and the mask of its hole, (h, w)."""

    pixels: Tensor
    row: Row
    hole: Tensor


def measure_filling(
    folder: ModelFolder,
    data: Path,
    output: Path,
    *,
    pictures: int = 50,
    judge_steps: int = 3000,
    judge_batch_size: int | None = None,
    judged_by_own: bool = False,
    steps: int | None = None,
    size: str = "v1",
    workers: int = 1,
    limit: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Figures]:
    """Fill a quarter of held-out paintings, from the middle, in every way there is to compare.

    The fill begins from its blurred surroundings, so that nothing of what was there comes in by the noise.

    Args:
        folder: the model.
        data: the data pack.
        output: where the pack is laid out, the judge is kept and a sheet to look at is left.
        pictures: how many paintings.
        judge_steps: training steps of the judge, unless an earlier run left one trained alike.
        judge_batch_size: pictures in each; as many as in an evaluation of the whole model by default.
        judged_by_own: let the model's own style classifier judge, at no noise, and train none.
        steps: of the sampler; the model's own by default.
        size: of the judge, "v1" or "toy".
        workers: processes that lay the pack out.
        limit: take only the first pictures of the pack.
        say: hears how far it is.

    Returns:
        The figures of each way; see `compare`. The last is the judge's own accuracy on those paintings.

    Raises:
        FileNotFoundError: `data` holds no shard.
        BadInput: the model has no style classifier that could judge.
    """
    if judged_by_own and folder.classifier is None:
        raise BadInput(f"{folder.name} has no style classifier beside it: let a judge be trained.", "model")
    device = torch.device(PartialState().device or "cpu")
    prepare_pack(data, output / "pack", workers=workers, limit=limit)
    bank = PictureBank(output / "pack", device, seed=0)
    paintings = _choose(bank, pictures)
    model = load_model(folder)
    if judged_by_own:
        look = partial(own_probabilities, model)
        assert model.style_classifier is not None
        styles = model.style_classifier.styles
    else:
        # Seeded as in an evaluation of the whole model, whose judge this is.
        torch.manual_seed(0)
        network = TOY_NETWORK if size == "toy" else NetworkSize()
        if judge_batch_size is not None:
            network = replace(network, batch_size=judge_batch_size)
        file = output / "judge.safetensors"
        judge = load_or_train_judge(bank, file, size=network, steps=judge_steps, say=say)
        look, styles = partial(style_probabilities, judge, device=device), judge.styles
    ways: dict[str, list[Tensor]] = {_ORIGINAL: [painting.pixels for painting in paintings]}
    ways |= {_OURS: [], "latents pasted, no blending": [], "mean colour": []}
    for number, painting in enumerate(paintings):
        recipe, files = _recipe_of(model, painting, seed=number, steps=steps)
        ways[_OURS].append(_filled(model, recipe, files))
        ways["latents pasted, no blending"].append(_pasted(model, recipe, painting))
        ways["mean colour"].append(_flat(painting))
        say(f"  {number + 1} of {len(paintings)} filled")
    _save_sheet(output / "sheets" / "filling.png", list(ways.values()))
    original = look(ways[_ORIGINAL])
    results: dict[str, Figures] = {}
    for way, images in ways.items():
        results[way] = compare(images, paintings) | {
            "style": float((look(images) - original).abs().sum(1).mean() / 2)
        }
    seen = [styles[index] for index in original.argmax(1).tolist()]
    results["judge"] = {"right about": agreement(seen, [one.row.style for one in paintings])}
    return results


@torch.inference_mode()
def compare(images: list[Tensor], paintings: list[Painting]) -> Figures:
    """Compare filled paintings with the untouched ones, in the mean over all.

    "seam" is the mean gradient across the border of the hole over that of the untouched paintings, "feather"
    the same where the feather ends; "colours" the Fréchet distance between the hole's Oklab colours and those
    that were there, each as a Gaussian.
    """
    borders = (
        [painting.hole for painting in paintings],
        [feathered(painting.hole[None, None], FEATHER_PX)[0, 0] for painting in paintings],
    )
    found = [
        sum(border_gradient(image, border) for image, border in zip(images, inside, strict=True))
        / sum(border_gradient(one.pixels, border) for one, border in zip(paintings, inside, strict=True))
        for inside in borders
    ]
    distances = [
        max(0.0, frechet_distance(*(oklab(pixels[one.hole > 0]) for pixels in (image, one.pixels)))) ** 0.5
        for image, one in zip(images, paintings, strict=True)
    ]
    return {"seam": found[0], "feather": found[1], "colours": sum(distances) / len(distances)}


def border_gradient(image: Tensor, inside: Tensor) -> float:
    """Mean difference, of 255, of neighbours in (h, w, 3) uint8 that a border parts; inside (h, w) is > 0."""
    pixels, within = image.float(), inside > 0
    steps = [
        (pixels.narrow(axis, 1, length - 1) - pixels.narrow(axis, 0, length - 1))
        .abs()
        .mean(2)[within.narrow(axis, 1, length - 1) != within.narrow(axis, 0, length - 1)]
        for axis, length in enumerate(within.shape)
    ]
    return float(torch.cat(steps).mean())


def oklab(pixels: Tensor) -> Tensor:
    """Colours (n, 3) uint8 in sRGB as lightness and two colour axes (n, 3), float64 (Ottosson 2020)."""
    values = pixels.double() / 255
    linear = torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_cones, to_lab = (torch.tensor(matrix, dtype=torch.float64) for matrix in (_TO_CONES, _TO_LAB))
    return (linear @ to_cones.T) ** (1 / 3) @ to_lab.T


def write_filling(results: Mapping[str, Figures], path: Path) -> None:
    """Write the figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def filling_table(results: Mapping[str, Figures]) -> str:
    """Show the figures as a Markdown table with a row for each way."""
    ways = [way for way in results if way != "judge"]
    names = list(results[_OURS])
    lines = [f"| filled by | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    lines += [f"| {way} | {' | '.join(f'{results[way][name]:.3f}' for name in names)} |" for way in ways]
    return "\n".join([*lines, "", f"The judge is right about {results['judge']['right about']:.0%} of them."])


def _choose(bank: PictureBank, count: int) -> list[Painting]:
    rows, images = held_out(bank)
    found = [
        Painting(image, row, centre_hole(image))
        for (_, row), image in zip(rows, images, strict=True)
        if row.source in _PAINTED
    ]
    return random.Random(0).sample(found, min(count, len(found)))


def centre_hole(image: Tensor) -> Tensor:
    """Mask the middle quarter of an image (h, w, 3): half its height and half its width, (h, w)."""
    height, width = image.shape[:2]
    hole = torch.zeros(height, width)
    hole[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return hole


def _recipe_of(
    model: StableDiffusion, painting: Painting, *, seed: int, steps: int | None
) -> tuple[Recipe, list[bytes]]:
    folder, defaults = model.folder, model.folder.defaults
    files = [_png(painting.pixels), _png((painting.hole * 255).byte())]
    source = make_source(
        image=source_key(files[0]),
        mask=source_key(files[1]),
        strength=1.0,
        feather_px=FEATHER_PX,
        hole="blur",
    )
    recipe = make_recipe(
        model=folder.name,
        model_revision=folder.revision,
        prompt=painting.row.captions[0],
        seed=seed,
        width=painting.pixels.shape[1],
        height=painting.pixels.shape[0],
        sampler=defaults.sampler,
        num_inference_steps=steps or defaults.num_inference_steps,
        guidance_scale=defaults.guidance_scale,
        source=source,
    )
    return recipe, files


@torch.inference_mode()
def _filled(model: StableDiffusion, recipe: Recipe, files: list[bytes]) -> Tensor:
    open_source = open_among(files)
    painted = to_images(model.decode(paint(model, recipe, open_source=open_source)))[0]
    return torch.from_numpy(stitch(recipe, painted, open_source).whole.pixels)


@torch.inference_mode()
def _pasted(model: StableDiffusion, recipe: Recipe, painting: Painting) -> Tensor:
    """Paint a whole picture of the same words and seed, and paste its latents into the hole at the end."""
    latents = paint(model, recipe.model_copy(update={"source": None}))
    source = model.encode(to_pixels(Image.fromarray(painting.pixels.numpy())))
    mask = functional.interpolate(painting.hole[None, None], latents.shape[2:]).to(latents.device)
    image = to_images(model.decode(mask * latents + (1 - mask) * source))[0]
    return _into_hole(painting, torch.from_numpy(np.array(image)))


def _flat(painting: Painting) -> Tensor:
    """Fill the hole with the mean colour of what lies around it."""
    mean = painting.pixels[painting.hole == 0].double().mean(0).round().byte()
    return _into_hole(painting, mean.expand_as(painting.pixels))


def _into_hole(painting: Painting, fill: Tensor) -> Tensor:
    return torch.where(painting.hole[..., None] > 0, fill, painting.pixels)


def _png(array: Tensor) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array.numpy()).save(stream, "PNG")
    return stream.getvalue()


def _save_sheet(path: Path, ways: list[list[Tensor]]) -> None:
    """Leave some paintings to look at, one under another: a row for each way, the untouched ones first."""
    shape = max((image.shape for image in ways[0]), key=[image.shape for image in ways[0]].count)
    alike = [index for index, image in enumerate(ways[0]) if image.shape == shape][:8]
    save_sheet(path, [torch.stack([images[index] for index in alike]) for images in ways])
