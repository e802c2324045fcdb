from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.recipe import SAMPLER_NAMES, BadInput, Recipe, make_recipe
from studio.provenance import (
    INFOTEXT_CHUNK,
    RECIPE_CHUNK,
    infotext,
    png_bytes,
    read_infotext,
    read_png_calls,
    read_png_recipe,
    read_png_text,
    save_png,
)

PICTURE = Image.new("RGB", (16, 8), (200, 30, 40))


def a_recipe(**changes: object) -> Recipe:
    fields: dict[str, object] = {
        "model": "atelier-v1",
        "model_revision": "45dee52b" + "0" * 56,
        "prompt": "a quiet harbour",
        "seed": 965400086,
        "width": 512,
        "height": 512,
        "sampler": "DPM++ 2M Karras",
        "num_inference_steps": 20,
        "guidance_scale": 7,
    }
    return make_recipe(**(fields | changes))


def test_infotext_is_what_other_studios_read() -> None:
    text = infotext(a_recipe(negative_prompt="fog, rain"))
    assert re.fullmatch(
        r"a quiet harbour\n"
        r"Negative prompt: fog, rain\n"
        r"Steps: 20, Sampler: DPM\+\+ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, "
        r"Size: 512x512, Model hash: 45dee52b, Model: atelier-v1, RNG: CPU, Version: \d+\.\d+.*",
        text,
    )


def test_infotext_ends_with_the_calls_that_painted_it(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    recipe = a_recipe()
    save_png(path, PICTURE, recipe, "eager 2 + eager 16")
    assert re.search(r", Version: \d[^,]+, Calls: eager 2 \+ eager 16$", read_png_text(path)[INFOTEXT_CHUNK])
    assert read_png_calls(path) == "eager 2 + eager 16"
    assert read_png_recipe(path) == recipe
    save_png(path, PICTURE, recipe)
    assert read_png_calls(path) == ""


def test_infotext_names_no_schedule_that_is_automatic() -> None:
    assert "Schedule type" not in infotext(a_recipe(sampler="Euler a"))


def test_infotext_quotes_values_that_would_not_parse() -> None:
    text = infotext(a_recipe(model='red, "green": blue'))
    assert r'Model: "red, \"green\": blue", RNG' in text
    assert read_infotext(text)["Model"] == 'red, "green": blue'


@pytest.mark.parametrize("scale", [0, 1, 7, 7.5, 12.25])
def test_infotext_writes_guidance_without_needless_zeros(scale: float) -> None:
    assert f"CFG scale: {scale:g}," in infotext(a_recipe(guidance_scale=scale))


# Any text an artist can type; lone surrogates are no text.
PROMPTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
MODELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(
    prompt=PROMPTS,
    negative_prompt=PROMPTS,
    model=MODELS,
    seed=st.integers(0, 2**64 - 1),
    sampler=st.sampled_from(SAMPLER_NAMES),
    guidance_scale=st.floats(0, 30),
)
@settings(deadline=None)
def test_any_recipe_round_trips_through_a_png(
    tmp_path_factory: pytest.TempPathFactory, **fields: object
) -> None:
    recipe = a_recipe(**fields)
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    save_png(path, PICTURE, recipe)
    assert read_png_recipe(path) == recipe
    assert set(read_png_text(path)) == {INFOTEXT_CHUNK, RECIPE_CHUNK}
    assert read_png_text(path)[INFOTEXT_CHUNK] == infotext(recipe)
    with Image.open(path) as image:
        assert image.tobytes() == PICTURE.tobytes()


@given(prompt=PROMPTS, negative_prompt=PROMPTS, model=MODELS, guidance_scale=st.floats(0, 30))
def test_infotext_reads_back(prompt: str, negative_prompt: str, model: str, guidance_scale: float) -> None:
    recipe = a_recipe(
        prompt=prompt, negative_prompt=negative_prompt, model=model, guidance_scale=guidance_scale
    )
    found = read_infotext(infotext(recipe))
    assert found["Prompt"] == prompt
    assert found["Negative prompt"] == negative_prompt
    assert found["Model"] == model
    assert found["Seed"] == "965400086"
    assert float(found["CFG scale"]) == guidance_scale


def test_only_two_text_chunks_are_written() -> None:
    chunks = re.findall(rb"(tEXt|iTXt|zTXt|eXIf)([a-z_]+)\0", png_bytes(PICTURE, a_recipe(prompt="море")))
    assert chunks == [(b"iTXt", b"parameters"), (b"iTXt", b"atelier_recipe")]


def test_refusals_say_what_would_be_right(tmp_path: Path) -> None:
    jpeg = tmp_path / "picture.jpg"
    PICTURE.save(jpeg)
    bare = tmp_path / "bare.png"
    PICTURE.save(bare)
    cut = tmp_path / "cut.png"
    cut.write_bytes(png_bytes(Image.effect_noise((256, 256), 50).convert("RGB"), a_recipe())[:9000])
    later = tmp_path / "later.png"
    later.write_bytes(_with_chunk('{"schema_version": 99}'))
    broken = tmp_path / "broken.png"
    broken.write_bytes(_with_chunk("{"))
    for path, words in {
        jpeg: "is not a PNG",
        bare: "carries no Atelier recipe",
        cut: "is damaged",
        later: "later Atelier",
        broken: "damaged",
        tmp_path / "missing.png": "There is no file",
        tmp_path: "is a folder",
    }.items():
        with pytest.raises(BadInput, match=words):
            read_png_recipe(path)


def _with_chunk(text: str) -> bytes:
    """A PNG whose recipe chunk says something else."""
    import io

    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text(RECIPE_CHUNK, text)
    stream = io.BytesIO()
    PICTURE.save(stream, "PNG", pnginfo=chunks)
    return stream.getvalue()
