"""Presets are their artist's alone, and are found again by another studio on the same data."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.palette import make_mix
from pipelines.recipe import BadInput
from studio.gallery import NotHers
from studio.presets import Preset
from studio.studio import Studio

MIX = make_mix([{"name": "baroque", "weight": 1, "curve": [1, 0]}, {"name": "ukiyo-e", "weight": 2}], "slerp")


def test_presets_outlive_a_restart_and_belong_to_one_artist(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(start=False)
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    kept = studio.presets.save(berthe.id, "  Evening   river ", MIX)
    other = studio.presets.save(berthe.id, "Noon", MIX)
    studio.close()
    again = open_studio(start=False)
    assert again.presets.of(berthe.id) == [other, kept]
    assert (kept.name, kept.mix) == ("Evening river", MIX)
    assert again.presets.of(edgar.id) == []
    with pytest.raises(NotHers):
        again.presets.delete(edgar.id, kept.id)
    with pytest.raises(NotHers):
        again.presets.delete(berthe.id, "../../secret")
    # The same name is the same preset, mixed anew.
    changed = MIX.model_copy(update={"method": "prediction"})
    assert again.presets.save(berthe.id, "Noon", changed).id == other.id
    assert [preset.mix.method for preset in again.presets.of(berthe.id)] == ["prediction", "slerp"]
    again.presets.delete(berthe.id, kept.id)
    assert [preset.name for preset in again.presets.of(berthe.id)] == ["Noon"]


def test_a_name_that_is_kept_twice_at_the_same_moment_is_kept_once(
    open_studio: Callable[..., Studio],
) -> None:
    studio = open_studio(start=False)
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    at_once = threading.Barrier(8)

    def keep(_: int) -> Preset:
        at_once.wait()
        return studio.presets.save(berthe.id, "Noon", MIX)

    with ThreadPoolExecutor(8) as artists:
        kept = list(artists.map(keep, range(8)))
    assert {one.id for one in kept} == {one.id for one in studio.presets.of(berthe.id)}
    assert len(studio.presets.of(berthe.id)) == 1
    # Under her own name, not over another artist's.
    studio.presets.save(edgar.id, "Noon", MIX.model_copy(update={"method": "prediction"}))
    assert [one.mix.method for one in studio.presets.of(berthe.id)] == ["slerp"]


@pytest.mark.parametrize("name", ["", "   ", "x" * 61])
def test_a_preset_has_a_name(open_studio: Callable[..., Studio], name: str) -> None:
    studio = open_studio(start=False)
    with pytest.raises(BadInput, match="a name of 1 to 60 characters"):
        studio.presets.save(studio.artists.guest().id, name, MIX)


def test_a_damaged_preset_is_left_out(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(start=False)
    berthe = studio.artists.create("Berthe")
    kept = studio.presets.save(berthe.id, "Noon", MIX)
    folder = studio.settings.data_dir / "presets" / berthe.id
    (folder / f"{'0' * 32}.json").write_text("{}")
    assert studio.presets.of(berthe.id) == [kept]
