"""Styles and mixes of them: which styles a picture is painted in, how much of each, when and where.

No torch at import: the page checks a mix before torch has loaded.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.sources import Sha256

MAX_STYLES = 6
MAX_REFERENCES = 3
MAX_STEER = 10.0
MAX_LORAS = 4
MAX_LORA_WEIGHT = 2.0
MAX_FILE_NAME_CHARACTERS = 255
MAX_WEIGHT = 100.0
MAX_CURVE_POINTS = 65
REGION_SIDE = 32
# What a classifier's part is called among those of the styles.
STEERING = "steering"
MAX_STYLE_NAME_CHARACTERS = 40
MAX_FRAGMENT_CHARACTERS = 400

Method = Literal["conditioning", "slerp", "prediction"]
METHODS: tuple[Method, ...] = get_args(Method)


def _is_none(value: object) -> bool:
    return value is None


class Style(BaseModel):
    """A style in words: `prompt` and `negative_prompt` are the fragments put after the picture's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    prompt: Annotated[str, Field(max_length=MAX_FRAGMENT_CHARACTERS)]
    negative_prompt: Annotated[
        str, Field(max_length=MAX_FRAGMENT_CHARACTERS, exclude_if=lambda text: text == "")
    ] = ""

    @field_validator("name")
    @classmethod
    def _has_a_name(cls, name: str) -> str:
        if not name.strip() or len(name) > MAX_STYLE_NAME_CHARACTERS:
            raise ValueError(f"A style has a name of 1 to {MAX_STYLE_NAME_CHARACTERS} characters.")
        return name


class MixedStyle(Style):
    """A style in a mix.

    `weight` is its share beside the others' weights, below zero to push the picture away from it. `curve`
    multiplies the weight over the run: values from 0 to 1 at even distances from the first step to the last,
    straight lines between them. `region` is where it was painted: base64 of 32 rows of 32 bytes from the
    top left, 0 nowhere to 255 wholly; without one the style is everywhere that no region covers.
    """

    weight: float
    curve: Annotated[tuple[float, ...] | None, Field(exclude_if=_is_none)] = None
    region: Annotated[str | None, Field(exclude_if=_is_none)] = None

    @model_validator(mode="after")
    def _can_be_mixed(self) -> Self:
        if not -MAX_WEIGHT <= self.weight <= MAX_WEIGHT:
            raise ValueError(
                f"The weight of {self.name} must be a number from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}, "
                f"not {self.weight:g}."
            )
        if self.curve is not None:
            if not 2 <= len(self.curve) <= MAX_CURVE_POINTS:
                raise ValueError(
                    f"The curve of {self.name} must have 2 to {MAX_CURVE_POINTS} points, "
                    f"not {len(self.curve)}."
                )
            if not all(0 <= point <= 1 for point in self.curve):
                raise ValueError(f"The curve of {self.name} must stay between 0 and 1.")
        if self.region is not None and len(region_bytes(self.region)) != REGION_SIDE**2:
            raise ValueError(f"The region of {self.name} cannot be read: paint it again.")
        if self.region is not None and self.weight < 0:
            raise ValueError(
                f"{self.name} pushes away, which works on the whole picture: give it a weight above 0 or "
                "take its region away."
            )
        return self

    @property
    def is_felt(self) -> bool:
        """Whether it changes anything: some weight, at some step, somewhere."""
        return (
            self.weight != 0
            and (self.curve is None or any(self.curve))
            and (self.region is None or any(region_bytes(self.region)))
        )

    def at(self, progress: float) -> float:
        """The weight at a moment of the run, from 0 at its first step to 1 at its last."""
        if self.curve is None:
            return self.weight
        place = progress * (len(self.curve) - 1)
        before = min(int(place), len(self.curve) - 2)
        low, high = self.curve[before : before + 2]
        return self.weight * (low + (high - low) * (place - before))


class IPAdapter(BaseModel):
    """The IP-Adapter that a picture is followed through: its name, and the SHA-256 of all its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=MAX_FILE_NAME_CHARACTERS)]
    sha256: Sha256


class Reference(BaseModel):
    """A picture that is followed: the SHA-256 of its file, how far, from 0 to 1, and through what.

    Without an `ip_adapter` the run attends to it, and takes over its manner (shared attention).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: Sha256
    strength: float
    ip_adapter: Annotated[IPAdapter | None, Field(exclude_if=_is_none)] = None

    @field_validator("strength")
    @classmethod
    def _is_a_share(cls, strength: float) -> float:
        if not 0 <= strength <= 1:
            raise ValueError(f"A picture is followed from 0, not at all, to 1, not {strength:g}.")
        return strength


class Steer(BaseModel):
    """How hard a style classifier steers towards the mix.

    `classifier` is the SHA-256 of its weights, filled in when a recipe is made for a model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    strength: float
    classifier: Annotated[str, Field(exclude_if=lambda text: text == "")] = ""

    @field_validator("strength")
    @classmethod
    def _can_steer(cls, strength: float) -> float:
        if not 0 <= strength <= MAX_STEER:
            raise ValueError(f"Steering must be a number from 0 to {MAX_STEER:g}, not {strength:g}.")
        return strength


class Lora(BaseModel):
    """A LoRA that is added to the model's weights: the name and SHA-256 of its file, and how much of it.

    `weight` is no share: 1 is what it was trained for, below zero its opposite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=MAX_FILE_NAME_CHARACTERS)]
    sha256: Sha256
    weight: float

    @model_validator(mode="after")
    def _can_be_added(self) -> Self:
        if not -MAX_LORA_WEIGHT <= self.weight <= MAX_LORA_WEIGHT:
            raise ValueError(
                f"The weight of the LoRA {self.name} must be a number from {-MAX_LORA_WEIGHT:g} to "
                f"{MAX_LORA_WEIGHT:g}, not {self.weight:g}."
            )
        return self


class Mix(BaseModel):
    """Two to six styles in one picture, or one alone, or none where pictures are followed or LoRAs added.

    `method` says what is mixed: "conditioning" the weighted mean of the prompt embeddings, "slerp" their
    spherical mean, "prediction" the network's predictions, one for each style (composable diffusion, Liu et
    al. 2022). Weights are shares: those above zero are divided by their sum, at every step anew. Whatever
    the method, `references` are pictures that are followed beside the styles (shared attention, Hertz et al.
    2024; IP-Adapter, Ye et al. 2023), `steer` lets a classifier push towards them (Dhariwal and Nichol 2021),
    and `loras` change the weights that paint (Hu et al. 2022).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: Method
    styles: tuple[MixedStyle, ...]
    references: Annotated[tuple[Reference, ...], Field(exclude_if=lambda found: found == ())] = ()
    steer: Annotated[Steer | None, Field(exclude_if=_is_none)] = None
    loras: Annotated[tuple[Lora, ...], Field(exclude_if=lambda found: found == ())] = ()

    @model_validator(mode="after")
    def _can_be_painted(self) -> Self:
        if len(self.references) > MAX_REFERENCES:
            raise ValueError(
                f"At most {MAX_REFERENCES} pictures can be followed, not {len(self.references)}."
            )
        if len({reference.image for reference in self.references}) < len(self.references):
            raise ValueError("The same picture is followed twice: give it one strength.")
        if len(self.loras) > MAX_LORAS:
            raise ValueError(f"At most {MAX_LORAS} LoRAs can be used at once, not {len(self.loras)}.")
        if len({lora.sha256 for lora in self.loras}) < len(self.loras):
            raise ValueError("The same LoRA is used twice: give it one weight.")
        if not self.styles and (self.loras or any(reference.strength for reference in self.references)):
            return self
        if not 1 <= len(self.styles) <= MAX_STYLES:
            raise ValueError(f"A mix has 1 to {MAX_STYLES} styles, not {len(self.styles)}.")
        names = [style.name for style in self.styles]
        if self.steer is not None and STEERING in names:
            raise ValueError(f"A style cannot be called {STEERING} while a classifier steers: rename it.")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is in the mix twice: give it one weight.")
        if not any(style.is_felt and style.weight > 0 for style in self.styles):
            raise ValueError("Every weight is zero or below: give at least one style some weight.")
        for style in self.styles:
            if style.weight < 0 and self.method != "prediction":
                raise ValueError(
                    f"{style.name} has a weight below 0, and only mixing by prediction can push a picture "
                    "away from a style: choose it, or give a weight from 0 on."
                )
        return self

    @property
    def felt(self) -> tuple[MixedStyle, ...]:
        """The styles that change anything, in an order of their own: a mix has no first style."""
        return tuple(sorted((style for style in self.styles if style.is_felt), key=lambda style: style.name))

    @property
    def followed(self) -> tuple[Reference, ...]:
        """The references that change anything, in an order of their own."""
        felt = (reference for reference in self.references if reference.strength > 0)
        return tuple(sorted(felt, key=lambda reference: reference.image))

    @property
    def added(self) -> tuple[Lora, ...]:
        """The LoRAs that change anything, in an order of their own."""
        felt = (lora for lora in self.loras if lora.weight != 0)
        return tuple(sorted(felt, key=lambda lora: lora.sha256))


def region_bytes(region: str) -> bytes:
    """Read a region; empty where it cannot be read."""
    try:
        return base64.b64decode(region, validate=True)
    except binascii.Error:
        return b""


def with_fragment(text: str, fragment: str) -> str:
    """Put a style's words after a prompt, as the embedded model's captions have them."""
    return ", ".join(part for part in (text.strip(), fragment.strip()) if part)


def shares_in_words(styles: Sequence[MixedStyle]) -> str:
    """Say a mix in one line: "impressionism 60 %, ukiyo-e 40 %"; what pushes away has a minus."""
    whole = sum(style.weight for style in styles if style.weight > 0)
    return ", ".join(f"{style.name} {round(100 * style.weight / whole)} %" for style in styles)
