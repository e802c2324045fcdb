"""A recipe: everything that decides a picture, and nothing else.

No torch at import: the page checks what an artist typed before torch has loaded.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipelines.refusal import BadInput
from pipelines.samplers import SAMPLERS
from pipelines.sources import Source, source_sentence
from pipelines.styles import REGION_SIDE, IPAdapter, Lora, Mix, region_bytes

SCHEMA_VERSION = 1
MAX_STEPS = 150
MIN_SIDE_PX, MAX_SIDE_PX = 64, 2048
MAX_GUIDANCE_SCALE = 30.0
MAX_SEED = 2**64 - 1
MAX_PROMPT_CHARACTERS = 2000
MAX_PICTURES = 16
SAMPLER_NAMES = tuple(SAMPLERS)


SidePx = Annotated[int, Field(ge=MIN_SIDE_PX, le=MAX_SIDE_PX, multiple_of=8)]
PromptText = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]


class Branch(BaseModel):
    """Where a picture leaves another's run: before step `step` of `parent`, which may be a branch itself.

    With a `mask` only what it covers changes, outside it the branch is its parent; it is written as the
    region of a style (`pipelines/styles.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    parent: Recipe
    step: Annotated[int, Field(ge=0)]
    mask: str | None = Field(default=None, exclude_if=lambda mask: mask is None)

    @field_validator("mask")
    @classmethod
    def _covers_something(cls, mask: str | None) -> str | None:
        painted = b"" if mask is None else region_bytes(mask)
        if mask is not None and len(painted) != REGION_SIDE**2:
            raise BadInput("The mask of the branch cannot be read: paint it again.", "mask")
        if mask is not None and not any(painted):
            raise BadInput("The mask of the branch covers nothing: paint where it may change.", "mask")
        return mask


class Recipe(BaseModel):
    """Everything that decides a picture. Frozen; the same recipe gives the same picture on one machine.

    Sizes are pixels. `seed` is resolved: never -1. `model_revision` is the SHA-256 of the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    model: str
    model_revision: str
    prompt: PromptText = ""
    negative_prompt: PromptText = ""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    width: SidePx
    height: SidePx
    sampler: Literal[
        "DPM++ 2M",
        "DPM++ 2M Karras",
        "Euler",
        "Euler a",
        "DDIM",
        "Heun",
        "UniPC",
        "PNDM",
        "DEIS",
        "DDPM",
        "LCM",
    ]
    num_inference_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    guidance_scale: Annotated[float, Field(ge=0, le=MAX_GUIDANCE_SCALE, allow_inf_nan=False)]
    branch: Branch | None = None
    # What came later is left out while it is not there: older recipes keep their keys.
    mix: Mix | None = Field(default=None, exclude_if=lambda mix: mix is None)
    source: Source | None = Field(default=None, exclude_if=lambda source: source is None)

    @field_validator("num_inference_steps")
    @classmethod
    def _within_the_samplers_steps(cls, steps: int, info: ValidationInfo) -> int:
        sampler = SAMPLERS.get(str(info.data.get("sampler")))
        if sampler is not None and sampler.max_steps is not None and steps > sampler.max_steps:
            raise ValueError(f"{info.data['sampler']} takes 1 to {sampler.max_steps} steps, not {steps}.")
        return steps

    @model_validator(mode="after")
    def _same_canvas(self) -> Recipe:
        if self.branch is not None:
            mine, theirs = (
                (recipe.model_revision, recipe.width, recipe.height) for recipe in (self, self.branch.parent)
            )
            if mine != theirs:
                raise ValueError("a branch has the model, width and height of the picture it leaves")
            if self.source != self.branch.parent.source:
                raise ValueError("a branch begins from what the picture it leaves began from")
        return self

    @model_validator(mode="after")
    def _sampler_can_begin_there(self) -> Recipe:
        midway = self.source is not None and self.source.first_step(self.num_inference_steps) > 0
        if midway and not SAMPLERS[self.sampler].begins_midway:
            raise BadInput(
                f"{self.sampler} cannot begin in the middle of its schedule. Choose another sampler, or "
                "strength 1.",
                "sampler",
            )
        return self

    @property
    def key(self) -> str:
        """SHA-256 (64 hex digits) of the recipe: equal recipes have equal keys, on every machine."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """The hashes of all files that the picture needs beside the model, its ancestors' among them."""
        own = self.source.files if self.source is not None else ()
        followed = tuple(reference.image for reference in self.mix.followed) if self.mix is not None else ()
        return (*own, *followed, *(self.branch.parent.files if self.branch is not None else ()))

    @property
    def loras(self) -> tuple[Lora, ...]:
        """The LoRAs that are added to the model's weights; its ancestors have their own."""
        return self.mix.added if self.mix is not None else ()

    @property
    def ip_adapters(self) -> tuple[IPAdapter, ...]:
        """The IP-Adapters that pictures are followed through; its ancestors have their own."""
        followed = self.mix.followed if self.mix is not None else ()
        return tuple(one.ip_adapter for one in followed if one.ip_adapter is not None)

    def lineage(self) -> list[Recipe]:
        """List the recipes this one branched from, the first ancestor first, itself last."""
        before = self.branch.parent.lineage() if self.branch is not None else []
        return [*before, self]


def draw_seed() -> int:
    """Draw a seed under 2**32, the range every other studio can take over."""
    return secrets.randbelow(2**32)


def make_recipe(**fields: object) -> Recipe:
    """Make a recipe from what was typed: numbers may come as text or as whole floats, seed -1 draws one.

    Raises:
        BadInput: with one sentence that says what is wrong and what would be right.
    """
    typed = {name: _as_number(name, value) for name, value in fields.items()}
    if typed.get("seed") == -1:
        typed["seed"] = draw_seed()
    try:
        return Recipe.model_validate(typed)
    except ValidationError as error:
        raise _bad_input(error, fields) from None


def read_recipe(json_text: str) -> Recipe:
    """Read a recipe from the JSON that a PNG or a timeline carries.

    Raises:
        BadInput: when the text is damaged, or was written by a later Atelier.
    """
    try:
        raw = _JSON_OBJECT.validate_json(json_text)
    except ValidationError:
        raise BadInput("The recipe is damaged: it is not a JSON object.") from None
    version = raw.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BadInput(
            f"The recipe was written by a later Atelier (schema {version}); this one reads up to "
            f"{SCHEMA_VERSION}. Update Atelier to read it."
        )
    try:
        return Recipe.model_validate_json(json_text)
    except ValidationError as error:
        raise _bad_input(error, raw) from None


_JSON_OBJECT = TypeAdapter(dict[str, JsonValue])
_WHOLE = ("seed", "width", "height", "num_inference_steps")


def _as_number(name: str, value: object) -> object:
    """Turn the text or whole float of a form field into the number it stands for; leave the rest alone."""
    if name in _WHOLE:
        if isinstance(value, str):
            try:
                return int(value.strip())
            except ValueError:
                return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    if name == "guidance_scale":
        if isinstance(value, str):
            try:
                return float(value.strip())
            except ValueError:
                return value
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
    return value


def _bad_input(error: ValidationError, fields: Mapping[str, object]) -> BadInput:
    first = error.errors()[0]
    if isinstance(refusal := first.get("ctx", {}).get("error"), BadInput):
        return refusal
    field = str(first["loc"][0]) if first["loc"] else ""
    if field == "source" and len(first["loc"]) > 1:
        name = str(first["loc"][1])
        return BadInput(source_sentence(name, first["input"], first["msg"]), name)
    return BadInput(_sentence(field, fields.get(field), first["msg"]), field)


def _sentence(field: str, value: object, message: str) -> str:
    shown = _shown(value)
    match field:
        case "prompt" | "negative_prompt":
            name = "The prompt" if field == "prompt" else "The negative prompt"
            if isinstance(value, str):
                return f"{name} has {len(value):,} characters; {MAX_PROMPT_CHARACTERS:,} is the most."
            return f"{name} must be text, not {shown}."
        case "seed":
            return f"Seed must be a whole number from 0 to {MAX_SEED}, or -1 to draw one, not {shown}."
        case "width" | "height":
            return (
                f"{field.capitalize()} must be a multiple of 8 from {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels, "
                f"not {shown}{_nearest_side(value)}."
            )
        case "num_inference_steps":
            if message.startswith("Value error, "):
                return message.removeprefix("Value error, ")
            return f"Steps must be a whole number from 1 to {MAX_STEPS}, not {shown}."
        case "guidance_scale":
            return f"Guidance must be a number from 0 to {MAX_GUIDANCE_SCALE:g}, not {shown}."
        case "sampler":
            return f"There is no sampler called {shown}. The samplers are {', '.join(SAMPLER_NAMES)}."
        case "mix":
            return message.removeprefix("Value error, ")
        case _:
            about = f"{field}: " if field else ""
            return f"The recipe cannot be read: {about}{message.removeprefix('Value error, ')}."


def _shown(value: object) -> str:
    text = "nothing" if value is None or value == "" else str(value)
    return text if len(text) <= 40 else text[:40] + "…"


def _nearest_side(value: object) -> str:
    number = _as_number("width", value)
    if not isinstance(number, (int, float)) or not math.isfinite(number):
        return ""
    near = min(max(round(number / 8) * 8, MIN_SIDE_PX), MAX_SIDE_PX)
    return f" ({near} would do)"
