"""What an artist reads when her picture fails."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DatabaseError

from pipelines.recipe import BadInput
from studio.files import is_full_disk

DISK_FULL = "The disk that holds the pictures is full: make room and ask again."
NO_MEMORY = (
    "There is not enough memory for this picture: ask for a smaller one, or wait until fewer are painted."
)
NOT_FINITE = (
    "The picture ran out of range on the way (its latents are no longer finite numbers): try a lower "
    "guidance or another sampler."
)
NO_TIMELINE = "The timeline of this picture could not be kept; the studio's log says why."
NO_TIMELINE_DISK_FULL = "There was no room on the disk for the timeline of this picture."


class NotFinite(ArithmeticError):
    """A run came to latents that are infinite or not a number."""


def sentence_for(error: BaseException) -> str:
    """Say in one sentence why something failed, and what would help."""
    if isinstance(error, BadInput):
        return str(error)
    if isinstance(error, NotFinite):
        return NOT_FINITE
    if is_full_disk(error):
        return DISK_FULL
    if is_out_of_memory(error):
        return NO_MEMORY
    if isinstance(error, DatabaseError):
        return f"The studio could not read or write its index ({error.orig}). Its log says more."
    if isinstance(error, OSError):
        return f"The studio could not read or write its files ({error.strerror or error}). Its log says more."
    return f"The studio made a mistake ({type(error).__name__}: {error}). Its log says more."


def sentence_without_timeline(error: BaseException) -> str:
    """Say why a picture that was painted has no timeline."""
    return NO_TIMELINE_DISK_FULL if is_full_disk(error) else NO_TIMELINE


@contextmanager
def refusing_when_full() -> Generator[None]:
    """Turn a full disk into the refusal that says so.

    Raises:
        BadInput: the disk is full.
    """
    try:
        yield
    except (OSError, DatabaseError) as error:
        if not is_full_disk(error):
            raise
        raise BadInput(DISK_FULL) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is out; torch's own have several forms, one for each device."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)
    )
