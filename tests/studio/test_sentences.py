from __future__ import annotations

import errno

import pytest
import torch
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError

from pipelines.recipe import BadInput
from studio.sentences import DISK_FULL, NO_MEMORY, NOT_FINITE, NotFinite, sentence_for


def test_memory_that_torch_cannot_have() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**50, dtype=torch.uint8)
    assert sentence_for(refused.value) == NO_MEMORY
    assert sentence_for(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")) == NO_MEMORY
    assert sentence_for(MemoryError()) == NO_MEMORY


def test_a_full_disk_however_deep_it_lies() -> None:
    wrapped = ValueError("the picture could not be saved")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert sentence_for(wrapped) == DISK_FULL


def test_other_errors() -> None:
    assert sentence_for(BadInput("Width must be a multiple of 8.")) == "Width must be a multiple of 8."
    assert sentence_for(NotFinite()) == NOT_FINITE
    assert "Permission denied" in sentence_for(PermissionError(errno.EACCES, "Permission denied", "/secret"))
    assert "KeyError" in sentence_for(KeyError("unet"))


def test_the_words_of_a_database_are_kept_without_its_statement() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(DatabaseError) as broken:
        connection.execute(text("SELECT secret FROM nowhere"))
    engine.dispose()
    sentence = sentence_for(broken.value)
    assert "no such table: nowhere" in sentence
    assert "SELECT" not in sentence
