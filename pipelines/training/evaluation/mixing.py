"""Does a mix show what was asked for: a style's probability against its weight, styles in their regions?"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from pipelines.batching import Failed, Finished, StepBatcher
from pipelines.calls import engine_of
from pipelines.models.sd import StableDiffusion
from pipelines.palette import make_mix
from pipelines.prompt_to_image import prompt_to_image
from pipelines.recipe import Recipe, make_recipe
from pipelines.styles import METHODS, REGION_SIDE, Mix
from pipelines.training.evaluation.painting import Manner

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
WAYS = (*METHODS, "time")
_CURVE_POINTS = 33
_HALF = REGION_SIDE // 2
_LEFT, _RIGHT = (
    base64.b64encode(bytes(row) * REGION_SIDE).decode()
    for row in ([255] * _HALF + [0] * _HALF, [0] * _HALF + [255] * _HALF)
)


@dataclass(frozen=True)
class Pair:
    """A scene to paint in two styles."""

    text: str
    seed: int
    one: str
    other: str


def plan_pairs_of_styles(scenes: Sequence[str], styles: Sequence[str], count: int) -> list[Pair]:
    """Draw scenes and two different styles for each, always alike."""
    rng = random.Random(0)
    return [Pair(rng.choice(scenes), seed, *rng.sample(list(styles), 2)) for seed in range(count)]


def mix_of(pair: Pair, way: str, weight: float) -> Mix:
    """Mix so that the first style has a weight from 0 to 1; by "time" it has that part of the run."""
    if way != "time":
        return make_mix([_style(pair.one, weight=weight), _style(pair.other, weight=1 - weight)], way)
    early = [float(point < weight * _CURVE_POINTS) for point in range(_CURVE_POINTS)]
    late = [1 - share for share in early]
    return make_mix([_style(pair.one, curve=early), _style(pair.other, curve=late)], "prediction")


def halves_of(pair: Pair) -> Mix:
    """Paint the first style on the left half of the canvas and the second on the right."""
    return make_mix([_style(pair.one, region=_LEFT), _style(pair.other, region=_RIGHT)], "prediction")


def recipe_of(model: StableDiffusion, manner: Manner, pair: Pair, mix: Mix) -> Recipe:
    """Make the recipe of one picture, in the model's own square format."""
    folder = model.folder
    return make_recipe(
        model=folder.name,
        model_revision=folder.revision,
        prompt=pair.text,
        seed=pair.seed,
        width=folder.width,
        height=folder.height,
        sampler=manner.sampler,
        num_inference_steps=manner.num_inference_steps,
        guidance_scale=manner.guidance_scale,
        mix=mix,
    )


@torch.inference_mode()
def paint_recipes(
    model: StableDiffusion, recipes: Sequence[Recipe], *, at_once: int, say: Callable[[str], None]
) -> list[Tensor]:
    """Paint recipes with the studio's own engine: (height, width, 3) uint8 on the CPU, in their order."""
    images: dict[int, Tensor] = {}
    waiting = list(enumerate(recipes))
    batcher = StepBatcher(model)
    while waiting or len(batcher):
        while waiting and len(batcher) < at_once:
            index, recipe = waiting.pop(0)
            batcher.join(index, prompt_to_image(model, recipe), engine_of(model, recipe))
        for key, event in batcher.tick():
            match event:
                case Finished(latents):
                    pixels = (model.decode(latents)[0].clamp(-1, 1) + 1) * 127.5
                    images[int(str(key))] = pixels.round().byte().permute(1, 2, 0).cpu()
                case Failed(error):
                    raise error
                case _:
                    pass
    say(f"  {len(images)} painted")
    return [images[index] for index in range(len(recipes))]


def measure_mixing(
    model: StableDiffusion,
    look: Callable[[Sequence[Tensor]], Tensor],
    known: Sequence[str],
    manner: Manner,
    *,
    scenes: Sequence[str],
    styles: Sequence[str],
    prompts: int,
    seeds: int,
    at_once: int,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Rank correlation of a style's probability with its weight, by way of mixing, and its share of regions.

    Of each prompt the probabilities from several seeds are averaged first, since one picture's is mostly the
    judge's noise; the correlation of single pictures stands beside. Regions are judged in the first seed.

    `look` turns images (height, width, 3) uint8 into the probabilities of the styles `known`, (N, styles).
    """
    pairs = plan_pairs_of_styles(scenes, styles if len(styles) > 1 else known, prompts)
    again = [replace(pair, seed=pair.seed + 1000 * number) for pair in pairs for number in range(seeds)]

    def paint(mixes: Sequence[tuple[Pair, Mix]]) -> list[Tensor]:
        recipes = [recipe_of(model, manner, pair, mix) for pair, mix in mixes]
        return paint_recipes(model, recipes, at_once=at_once, say=say)

    def judge(way: str, weights: Sequence[float]) -> Tensor:
        """The first style's probability by pair and weight, (pairs * seeds, weights)."""
        seen = look(paint([(pair, mix_of(pair, way, weight)) for pair in again for weight in weights]))
        wanted = torch.tensor([known.index(pair.one) for pair in again], device=seen.device)
        rows = seen.unflatten(0, (len(again), len(weights)))
        return rows.gather(2, wanted[:, None, None].expand(-1, len(weights), 1))[..., 0].cpu()

    figures: dict[str, float] = {"prompts": len(pairs), "seeds": seeds}
    say("one style alone")
    # A style of weight zero changes nothing: the ends are the same pictures in every way of mixing.
    alone = judge(METHODS[0], (WEIGHTS[0], WEIGHTS[-1]))
    for way in WAYS:
        say(f"mixing by {way}")
        single = torch.cat([alone[:, :1], judge(way, WEIGHTS[1:-1]), alone[:, 1:]], dim=1)
        averaged = single.unflatten(0, (len(pairs), seeds)).mean(1)
        figures[f"{way}, Spearman, mean over prompts"] = fmean([spearman(row) for row in averaged.tolist()])
        figures[f"{way}, Spearman of single pictures"] = fmean([spearman(row) for row in single.tolist()])
        figures[f"{way}, Spearman of the mean"] = spearman(averaged.mean(0).tolist())
    say("mixing by region")
    images = paint([(pair, halves_of(pair)) for pair in pairs])
    middle = images[0].shape[1] // 2
    halves = [half for image in images for half in image.split([middle, image.shape[1] - middle], 1)]
    wanted = [names for pair in pairs for names in ((pair.one, pair.other), (pair.other, pair.one))]
    hits = [
        bool(row[known.index(own)] > row[known.index(rival)])
        for row, (own, rival) in zip(look(halves), wanted, strict=True)
    ]
    figures["region, right style in the right half"] = sum(hits) / len(hits)
    return figures


def spearman(values: Sequence[float]) -> float:
    """Rank correlation of values with their order (Spearman 1904); equal values share a rank, 0 if all do."""
    found = torch.tensor(values, dtype=torch.float64)
    ranks = (found[:, None] > found).sum(1) + ((found[:, None] == found).sum(1) - 1) / 2
    places = torch.arange(len(found), dtype=torch.float64)
    ranks, places = ranks - ranks.mean(), places - places.mean()
    scale = (ranks.square().sum() * places.square().sum()).sqrt()
    return float((ranks * places).sum() / scale) if scale > 0 else 0.0


def _style(name: str, **fields: object) -> dict[str, object]:
    return {"weight": 1, **fields, "name": name, "prompt": name}
