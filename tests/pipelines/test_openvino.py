"""OpenVINO paints the same pictures; run where it is installed (`pip install -e '.[test,openvino]'`)."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from pipelines.batching import Finished, StepBatcher
from pipelines.calls import Call, engine_of
from pipelines.denoising import Rows
from pipelines.models.openvino_cpu import OpenVINO, prepare_openvino
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint, prompt_to_image
from tests.pipelines.test_denoising import recipe_of

pytest.importorskip("openvino")


def never(_seconds: float) -> bool:
    return False


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("converted")


@pytest.fixture
def prepared(tiny: StableDiffusion, cache: Path) -> Generator[OpenVINO]:
    tiny.openvino = prepare_openvino(tiny, never, cache)
    assert tiny.openvino is not None
    yield tiny.openvino
    tiny.openvino = None


@pytest.mark.parametrize("adapter", ["", "lcm"])
@pytest.mark.parametrize(("rows", "height", "width"), [(1, 32, 32), (2, 32, 32), (3, 24, 40)])
def test_it_predicts_what_torch_does(
    tiny: StableDiffusion, prepared: OpenVINO, adapter: str, rows: int, height: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(rows)
    asked = Rows(
        torch.randn(rows, 4, height, width, generator=generator),
        torch.tensor([3.0, 500.0, 999.0])[:rows],
        tiny.encode_prompt(["a cat", "", "a fish"][:rows]).embeds,
        adapter,
    )
    torch.testing.assert_close(prepared.predict(asked), tiny.predict(asked), rtol=1e-3, atol=1e-3)
    assert torch.equal(prepared.predict(asked), prepared.predict(asked))


def test_a_picture_ends_with_the_engine_it_began_with(tiny: StableDiffusion, cache: Path) -> None:
    recipe = recipe_of(tiny, num_inference_steps=3)
    batcher = StepBatcher(tiny)
    batcher.join("before", prompt_to_image(tiny, recipe), engine_of(tiny, recipe))
    batcher.tick()
    tiny.openvino = prepare_openvino(tiny, never, cache)
    try:
        batcher.join("after", prompt_to_image(tiny, recipe), engine_of(tiny, recipe))
        ends: dict[object, Finished] = {}
        while len(batcher):
            ends |= {key: event for key, event in batcher.tick() if isinstance(event, Finished)}
    finally:
        tiny.openvino = None
    alone = paint(tiny, recipe)
    assert ends["before"].calls == (Call("eager", 2),)
    assert torch.equal(ends["before"].latents, alone)
    assert ends["after"].calls == (Call("openvino", 2),)
    torch.testing.assert_close(ends["after"].latents, alone, rtol=1e-2, atol=1e-2)


def test_a_picture_is_painted_again_by_its_own_engine(tiny: StableDiffusion, prepared: OpenVINO) -> None:
    recipe = recipe_of(tiny)
    assert engine_of(tiny, recipe) == "openvino"
    assert engine_of(tiny, recipe, "eager 2") == "eager"
    assert engine_of(tiny, recipe, "openvino 2") == "openvino"
    assert engine_of(tiny, recipe_of(tiny, width=72)) == "openvino"
    assert not prepared.fits(32, 33), "such sizes stay with torch"


def test_converting_is_given_up_when_the_studio_closes(tiny: StableDiffusion, tmp_path: Path) -> None:
    assert prepare_openvino(tiny, lambda _: True, tmp_path) is None
    assert not any(tmp_path.iterdir())


def test_where_openvino_dies_the_studio_does_not(
    tiny: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr("pipelines.models.openvino_cpu.sys.executable", str(dying))
    with pytest.raises(RuntimeError, match=r"does not work here.*SIGSEGV"):
        prepare_openvino(tiny, never, tmp_path / "cache")
    cache = tmp_path / "cache"
    assert not [one for one in cache.iterdir() if one.is_dir()], "what was not finished is not converted"

    # It is not tried again, until its note is removed; what was killed from outside is.
    (note,) = cache.iterdir()
    monkeypatch.setattr("pipelines.models.openvino_cpu.sys.executable", str(tmp_path / "missing"))
    with pytest.raises(RuntimeError, match=rf"SIGSEGV.*remove {re.escape(str(note))}"):
        prepare_openvino(tiny, never, cache)
    note.unlink()
    dying.write_text("#!/bin/sh\nkill -KILL $$\n")
    monkeypatch.setattr("pipelines.models.openvino_cpu.sys.executable", str(dying))
    with pytest.raises(RuntimeError, match="SIGKILL"):
        prepare_openvino(tiny, never, cache)
    assert list(cache.iterdir()) == []
