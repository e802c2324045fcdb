"""The palette: the styles that every artist finds in the studio (assets/styles.toml), and mixes made of them.

No torch at import.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.recipe import BadInput
from pipelines.styles import METHODS, IPAdapter, Lora, Method, Mix, MixedStyle, Reference, Steer, Style

STYLES = Path(__file__).resolve().parents[1] / "assets" / "styles.toml"


class Swatch(Style):
    """A style of the palette.

    `period` is when it was painted in; `thumbnail`, in assets/styles, shows the prompt `example` in it.
    """

    period: str
    description: str
    example: str
    seed: int
    thumbnail: str


class Beginning(BaseModel):
    """A mix to begin from: `styles` are weights by name; `thumbnail`, in assets/styles, is its picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    method: str
    styles: dict[str, float]
    seed: int
    thumbnail: str

    @property
    def mix(self) -> Mix:
        """The mix itself."""
        return make_mix(
            [{"name": name, "weight": weight} for name, weight in self.styles.items()], self.method
        )


class Sheet(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: tuple[Swatch, ...]
    beginning: tuple[Beginning, ...]


@cache
def read_sheet(path: Path = STYLES) -> Sheet:
    """Read the palette and the mixes to begin from."""
    return Sheet.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def palette() -> tuple[Swatch, ...]:
    """List the styles of the palette in their order."""
    return read_sheet().style


def find_style(name: str) -> Swatch:
    """Find a style of the palette by its name, whatever its capitals.

    Raises:
        BadInput: naming the styles there are.
    """
    for swatch in palette():
        if swatch.name == name.strip().lower():
            return swatch
    known = ", ".join(swatch.name for swatch in palette())
    raise BadInput(f"There is no style called {name}. The styles are {known}.", "mix")


def make_mix(
    styles: Sequence[Mapping[str, object]],
    method: str,
    *,
    references: Sequence[Mapping[str, object]] = (),
    steer: object = 0,
    loras: Sequence[Mapping[str, object]] = (),
) -> Mix:
    """Make a mix from what was chosen.

    Args:
        styles: for each, `name` and `weight`, if wanted `curve` and `region`; `prompt` and `negative_prompt`
            where the style is the artist's own and not in the palette.
        method: one of `METHODS`.
        references: for each picture that is followed, `image`, its file's SHA-256, `strength`, and where it
            is followed through an IP-Adapter, as `ip_adapter`, that one's `name` and `sha256`.
        steer: how hard the model's classifier pushes towards the styles.
        loras: for each LoRA, its `name`, its file's `sha256` and its `weight`.

    Raises:
        BadInput: with one sentence that says what is wrong and what would be right.
    """
    methods: dict[str, Method] = {known: known for known in METHODS}
    chosen = methods.get(method)
    if chosen is None:
        raise BadInput(f"Styles are mixed by {', '.join(METHODS)}, not by {method}.", "mix")
    strength = _number(steer, "Steering")
    try:
        return Mix(
            method=chosen,
            styles=tuple(_mixed(style) for style in styles),
            references=tuple(_reference(reference) for reference in references),
            steer=Steer(strength=strength) if strength else None,
            loras=tuple(_lora(lora) for lora in loras),
        )
    except ValidationError as error:
        raise BadInput(_sentence(error), "mix") from None


def read_share(text: str, what: str = "style") -> dict[str, object]:
    """Read "ukiyo-e=0.4" as the name and weight of a style, or of something else that has both.

    Raises:
        BadInput: there is no "=" in it.
    """
    name, equals, weight = text.rpartition("=")
    if not equals:
        raise BadInput(f"Give a {what} as NAME=WEIGHT, such as {text.strip() or 'ukiyo-e'}=0.5.", "mix")
    return {"name": name.strip(), "weight": weight.strip()}


def _mixed(fields: Mapping[str, object]) -> MixedStyle:
    name = str(fields.get("name", ""))
    typed = {key: value for key, value in fields.items() if value is not None}
    if "prompt" not in typed:
        swatch = find_style(name)
        typed |= {"name": swatch.name, "prompt": swatch.prompt, "negative_prompt": swatch.negative_prompt}
    curve = typed.get("curve")
    if isinstance(curve, list):
        typed["curve"] = tuple(curve)
    typed["weight"] = _number(typed.get("weight"), f"The weight of {name}")
    return MixedStyle.model_validate(typed)


def _reference(fields: Mapping[str, object]) -> Reference:
    strength = _number(fields.get("strength"), "How far a picture is followed")
    adapter = fields.get("ip_adapter")
    named = None
    if isinstance(adapter, Mapping):
        named = IPAdapter(name=str(adapter.get("name", "")), sha256=str(adapter.get("sha256", "")))
    return Reference(image=str(fields.get("image", "")), strength=strength, ip_adapter=named)


def _lora(fields: Mapping[str, object]) -> Lora:
    name = str(fields.get("name", ""))
    weight = _number(fields.get("weight"), f"The weight of the LoRA {name}")
    return Lora(name=name, sha256=str(fields.get("sha256", "")), weight=weight)


def _number(typed: object, what: str) -> float:
    try:
        number = float(str(typed))
    except ValueError:
        shown = "nothing" if typed in (None, "") else str(typed)
        raise BadInput(f"{what} must be a number, not {shown}.", "mix") from None
    if not math.isfinite(number):
        raise BadInput(f"{what} must be a finite number, not {typed}.", "mix")
    return number


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["msg"]).removeprefix("Value error, ")
    return f"The mix cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}."
