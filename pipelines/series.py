"""Series: one recipe varied in a strip, a triangle or a grid, to see what a mix or a setting does.

No torch at import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.palette import make_mix
from pipelines.recipe import MAX_PICTURES, BadInput, Recipe, draw_seed, make_recipe
from pipelines.styles import MixedStyle

STRIP_STOPS = 7
TRIANGLE_SIDE = 5

Kind = Literal["weight", "lora", "guidance_scale", "seed", "num_inference_steps", "sampler", "prompt"]
KINDS: Mapping[Kind, str] = {
    "weight": "Weight of a style",
    "lora": "Weight of a LoRA",
    "guidance_scale": "Guidance",
    "seed": "Seed",
    "num_inference_steps": "Steps",
    "sampler": "Sampler",
    "prompt": "Words of the prompt",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a series; `row` and `column` count widths of a cell, halves in a triangle."""

    recipe: Recipe
    label: str
    row: int
    column: float


@dataclass(frozen=True, slots=True)
class Axis:
    """What a grid varies: `kind`, for weights the `style` or LoRA, and one value for each row or column."""

    kind: Kind
    values: tuple[str, ...]
    style: str = ""


def strip(recipe: Recipe) -> list[Cell]:
    """Walk from one style of a mix to the other in seven stops of weight.

    Raises:
        BadInput: the mix has not exactly two styles.
    """
    styles = _styles(recipe, 2, "A strip runs from one style to another")
    last = STRIP_STOPS - 1
    return [
        Cell(
            _weighted(recipe, styles, ((last - stop) / last, stop / last)),
            _label(styles, (last - stop, stop)),
            0,
            stop,
        )
        for stop in range(STRIP_STOPS)
    ]


def triangle(recipe: Recipe) -> list[Cell]:
    """Lay out fifteen mixes of three styles: each corner is one style alone.

    Raises:
        BadInput: the mix has not exactly three styles.
    """
    styles = _styles(recipe, 3, "A triangle lies between three styles")
    side = TRIANGLE_SIDE - 1
    cells: list[Cell] = []
    for row in range(TRIANGLE_SIDE):
        for place in range(row + 1):
            parts = (side - row, row - place, place)
            mixed = _weighted(recipe, styles, [part / side for part in parts])
            cells.append(Cell(mixed, _label(styles, parts), row, (side - row) / 2 + place))
    return cells


def grid(recipe: Recipe, across: Axis, down: Axis) -> list[Cell]:
    """Vary two things at once: `across` from column to column, `down` from row to row.

    Raises:
        BadInput: too many pictures, a value that cannot be, or a style that is not in the mix.
    """
    count = len(across.values) * len(down.values)
    if not 1 <= count <= MAX_PICTURES:
        raise BadInput(
            f"A grid of {len(across.values)} by {len(down.values)} is {count} pictures; it may have 1 to "
            f"{MAX_PICTURES}. Separate the values by commas.",
            "grid",
        )
    return [
        Cell(
            _varied(_varied(recipe, down, y), across, x),
            f"{_value_label(across, x)} · {_value_label(down, y)}",
            row,
            column,
        )
        for row, y in enumerate(down.values)
        for column, x in enumerate(across.values)
    ]


def read_axis(kind: str, values: str, style: str = "") -> Axis:
    """Read an axis as typed: values between commas.

    Raises:
        BadInput: there is no such kind.
    """
    kinds: dict[str, Kind] = {name: name for name in KINDS}
    known = kinds.get(kind)
    if known is None:
        raise BadInput(f"A grid varies {', '.join(KINDS)}, not {kind}.", "grid")
    typed = [value.strip() for value in values.split(",") if value.strip()]
    if known == "seed":
        # Drawn here, so that all cells of a row or a column have the same.
        typed = [str(draw_seed()) if value == "-1" else value for value in typed]
    return Axis(known, tuple(typed), style)


def _value_label(axis: Axis, value: str) -> str:
    """Name a value so that it can be told from the other axis's."""
    match axis.kind:
        case "weight" | "lora":
            return f"{axis.style} {value}"
        case "guidance_scale":
            return f"guidance {value}"
        case "seed":
            return f"seed {value}"
        case "num_inference_steps":
            return f"{value} steps"
        case "sampler" | "prompt":
            return value


def _label(styles: Sequence[MixedStyle], parts: Sequence[float]) -> str:
    """Name a corner by its style, and what lies between by its shares."""
    alone = [style.name for style, part in zip(styles, parts, strict=True) if part == sum(parts)]
    return alone[0] if alone else " : ".join(str(round(100 * part / sum(parts))) for part in parts)


def _varied(recipe: Recipe, axis: Axis, value: str) -> Recipe:
    match axis.kind:
        case "weight":
            return _with_weight(recipe, axis.style, value)
        case "lora":
            return _with_lora(recipe, axis.style, value)
        case "prompt":
            first = axis.values[0]
            if first not in recipe.prompt:
                raise BadInput(
                    f"Begin with words that the prompt has: “{first}” is not in it, so nothing can take "
                    "its place.",
                    "grid",
                )
            return _made(recipe, prompt=recipe.prompt.replace(first, value))
        case _:
            return _made(recipe, **{axis.kind: value})


def _with_weight(recipe: Recipe, name: str, value: str) -> Recipe:
    styles = recipe.mix.styles if recipe.mix else ()
    if all(style.name != name for style in styles):
        raise BadInput(f"{name or 'This style'} is not in the mix, so its weight cannot be varied.", "grid")
    try:
        weight = float(value)
    except ValueError:
        raise BadInput(f"The weight of {name} must be a number, not {value}.", "grid") from None
    weights = [weight if style.name == name else style.weight for style in styles]
    return _weighted(recipe, styles, weights)


def _with_lora(recipe: Recipe, name: str, value: str) -> Recipe:
    mix = recipe.mix
    if mix is None or all(lora.name != name for lora in mix.loras):
        raise BadInput(
            f"{name or 'This LoRA'} is not in the mix, so its weight cannot be varied.",
            "grid",
        )
    weighed = [{**dict(lora), "weight": value if lora.name == name else lora.weight} for lora in mix.loras]
    loras = make_mix([], mix.method, loras=weighed).loras
    return _made(recipe, mix=mix.model_copy(update={"loras": loras}))


def _weighted(recipe: Recipe, styles: Sequence[MixedStyle], weights: Sequence[float]) -> Recipe:
    assert recipe.mix is not None
    chosen = [dict(style) | {"weight": float(weight)} for style, weight in zip(styles, weights, strict=True)]
    mixed = make_mix(chosen, recipe.mix.method).styles
    return _made(recipe, mix=recipe.mix.model_copy(update={"styles": mixed}))


def _styles(recipe: Recipe, count: int, sentence: str) -> tuple[MixedStyle, ...]:
    styles = recipe.mix.styles if recipe.mix else ()
    if len(styles) != count:
        raise BadInput(f"{sentence}: the mix has {len(styles)}, choose {count}.", "mix")
    return styles


def _made(recipe: Recipe, **changes: object) -> Recipe:
    return make_recipe(**(dict(recipe) | changes))
