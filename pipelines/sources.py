"""The picture that a recipe begins from, named by its content. No torch at import."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.refusal import BadInput

MAX_FEATHER_PX = 256
MAX_EXTEND_PX = 4096
CONTEXT = 0.5
Hole = Literal["original", "blur", "colour", "noise"]
HOLES: tuple[Hole, ...] = get_args(Hole)
# Left, top, right and bottom.
Margins = tuple[int, int, int, int]
NO_MARGINS: Margins = (0, 0, 0, 0)
_ExtendPx = Annotated[int, Field(ge=0, le=MAX_EXTEND_PX)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Finds the bytes of a source file by their SHA-256; raises BadInput when they are gone.
OpenSource = Callable[[str], bytes]


def _left_out(default: Any) -> Any:
    """Give a field a default at which it is left out of the JSON."""
    return Field(default=default, exclude_if=lambda value: value == default)


class Source(BaseModel):
    """What a picture begins from instead of pure noise.

    `image` is the SHA-256 (64 hex digits) of the picture's file, as it was given. `strength`, above 0 and up
    to 1, is the part of the schedule that is painted: the run begins at the step it chooses, from the
    encoded picture noised to there (Meng et al. 2022, SDEdit).

    With a `mask` (its file's SHA-256; white is repainted) only what it covers is painted, and the picture
    keeps its own size. `feather_px` is how far the mask fades out beyond its border, in the picture's pixels;
    `hole` what it is filled with to begin from; `context` how much of the surroundings is seen, as a share of
    the hole's sides; `paste_back` whether the fill is fitted into the untouched picture or left as the model
    painted it.

    `extend` is by how many pixels the picture grows to the left, top, right and bottom: that is painted too,
    and `feather_px` of it then goes over from the mirrored picture, since no pixel of the picture changes.

    `over` is a finished picture of the same size that is laid over the result in the end, where its
    `over_mask` is white: two fills brushed into one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: Sha256
    strength: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    mask: Sha256 | None = _left_out(None)
    feather_px: Annotated[int, Field(ge=0, le=MAX_FEATHER_PX)] = _left_out(0)
    hole: Hole = _left_out("original")
    context: Annotated[float, Field(ge=0, le=4, allow_inf_nan=False)] = _left_out(CONTEXT)
    paste_back: bool = _left_out(True)
    extend: tuple[_ExtendPx, _ExtendPx, _ExtendPx, _ExtendPx] = _left_out(NO_MARGINS)

    over: Sha256 | None = _left_out(None)
    over_mask: Sha256 | None = _left_out(None)

    @model_validator(mode="after")
    def _over_where(self) -> Source:
        if (self.over is None) != (self.over_mask is None):
            raise ValueError("what is laid over has a mask, and a mask has what it lays over")
        return self

    @property
    def in_part(self) -> bool:
        """Whether only a part of the picture is painted, and put back into it."""
        return self.mask is not None or any(self.extend)

    def first_step(self, num_inference_steps: int) -> int:
        """Return the step the run begins at: as in diffusers, but at least one step is left."""
        return num_inference_steps - max(
            1, min(int(num_inference_steps * self.strength), num_inference_steps)
        )

    @property
    def files(self) -> tuple[str, ...]:
        """The hashes of all files that the picture needs."""
        return tuple(key for key in (self.image, self.mask, self.over, self.over_mask) if key is not None)


def make_source(**fields: object) -> Source:
    """Make a source from what was typed: numbers may come as text or as whole numbers.

    Raises:
        BadInput: with one sentence that says what is wrong and what would be right.
    """
    typed = {name: _as_number(name, value) for name, value in fields.items()}
    try:
        return Source.model_validate(typed)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "source"
        value = first["input"] if name == "extend" else fields.get(name)
        raise BadInput(source_sentence(name, value, first["msg"]), name) from None


def source_sentence(name: str, value: object, message: str) -> str:
    """Say what is wrong with one field of a source, and what would be right."""
    shown = "nothing" if value is None or value == "" else f"{value:.40}" if isinstance(value, str) else value
    match name:
        case "strength":
            return f"Strength must be a number above 0 and up to 1, not {shown}."
        case "image" | "mask":
            what = "picture to begin from" if name == "image" else "mask"
            return f"The {what} is named by its file's SHA-256, 64 hex digits, not {shown}."
        case "feather_px":
            return f"Feather must be a whole number of pixels from 0 to {MAX_FEATHER_PX}, not {shown}."
        case "hole":
            return f"The hole begins from {', '.join(HOLES[:-1])} or {HOLES[-1]}, not from {shown}."
        case "extend":
            return (
                f"A picture grows by a whole number of pixels from 0 to {MAX_EXTEND_PX} on each of its four "
                f"sides, not by {shown}."
            )
        case "context":
            return f"The surroundings must be a number from 0 to 4, not {shown}."
        case _:
            return f"The source cannot be read: {name}: {message}."


def source_key(content: bytes) -> str:
    """Name a file by its content: its SHA-256, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def open_among(files: Iterable[bytes]) -> OpenSource:
    """Open sources among files that are at hand."""
    known = {source_key(content): content for content in files}

    def open_source(key: str) -> bytes:
        try:
            return known[key]
        except KeyError:
            raise BadInput(
                f"This picture begins from another one, whose file (SHA-256 {key[:8]}…) is not here. "
                "Give that very file as --image.",
                "image",
            ) from None

    return open_source


no_sources = open_among(())


def _as_number(name: str, value: object) -> object:
    """Turn what a form field holds into the number it stands for; leave the rest alone."""
    if name == "extend" and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_as_number("side", side if side != "" else 0) for side in value)
    if name not in ("strength", "feather_px", "context", "side"):
        return value
    try:
        number = float(value) if isinstance(value, (str, int, float)) else value
    except ValueError:
        return value
    whole = name in ("feather_px", "side") and isinstance(number, float) and number.is_integer()
    return int(number) if whole and isinstance(number, float) else number
