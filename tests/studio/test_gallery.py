from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.recipe import BadInput
from studio.gallery import NotHers
from studio.provenance import read_png_recipe
from studio.studio import Studio
from tests.studio.conftest import paint_one, small_disk

OpenStudio = Callable[..., Studio]


def test_her_own_pictures_come_newest_first_a_page_at_a_time(studio: Studio) -> None:
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    painted = [paint_one(studio, berthe.id, seed=seed).id for seed in range(5)]
    paint_one(studio, edgar.id)
    own = studio.gallery.own(berthe.id, limit=10)
    assert [artwork.id for artwork in own] == painted[::-1]
    assert {artwork.artist_name for artwork in own} == {"Berthe"}
    first = studio.gallery.own(berthe.id, limit=2)
    second = studio.gallery.own(berthe.id, limit=10, before=first[-1].id)
    assert [artwork.id for artwork in [*first, *second]] == painted[::-1]
    assert studio.gallery.own(berthe.id, limit=2, before="no such picture") == []


def test_the_wall_shows_what_artists_hang(studio: Studio) -> None:
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    first, second = paint_one(studio, berthe.id).id, paint_one(studio, edgar.id).id
    assert studio.gallery.wall(limit=10) == []
    with pytest.raises(NotHers):
        studio.gallery.get(first, edgar.id)
    studio.gallery.hang(second, edgar.id, True)
    assert studio.gallery.hang(first, berthe.id, True).hung
    assert [artwork.id for artwork in studio.gallery.wall(limit=10)] == [first, second]
    assert [artwork.id for artwork in studio.gallery.wall(limit=10, before=first)] == [second]
    assert studio.gallery.get(first, edgar.id).artist_name == "Berthe"
    studio.gallery.hang(first, berthe.id, False)
    assert [artwork.id for artwork in studio.gallery.wall(limit=10)] == [second]
    with pytest.raises(NotHers):
        studio.gallery.file(first, edgar.id)


def test_others_can_neither_hang_nor_delete(studio: Studio) -> None:
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    picture = paint_one(studio, berthe.id).id
    studio.gallery.hang(picture, berthe.id, True)
    for change in (
        lambda: studio.gallery.hang(picture, edgar.id, False),
        lambda: studio.gallery.delete(picture, edgar.id),
        lambda: studio.gallery.delete("no such picture", edgar.id),
    ):
        with pytest.raises(NotHers):
            change()
    assert studio.gallery.file(picture, edgar.id).exists()


def test_a_deleted_picture_leaves_nothing(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    job = paint_one(studio, berthe.id)
    studio.gallery.hang(job.id, berthe.id, True)
    studio.gallery.delete(job.id, berthe.id)
    assert studio.gallery.own(berthe.id, limit=10) == studio.gallery.wall(limit=10) == []
    assert not [path for path in studio.settings.data_dir.rglob(f"*{job.id}*")]
    with pytest.raises(NotHers):
        studio.timeline(job.id, berthe.id)


def test_the_timeline_shows_every_step(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    job = paint_one(studio, berthe.id, sampler="Heun", num_inference_steps=6, width=96)
    timeline = studio.timeline(job.id, berthe.id)
    assert timeline["count"] == 11  # Heun looks twice at every step but the last
    assert timeline["tile"] == {"width": 96, "height": 64}
    assert timeline["recipe"] == job.recipe.model_dump(mode="json")
    steps = timeline["steps"]
    assert isinstance(steps, list)
    assert len(steps) == 11
    with pytest.raises(BadInput, match="layers"):
        studio.sheet(job.id, berthe.id, "../index")


def test_a_rebuilt_index_is_the_same(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Ēdgars")
    pictures = [paint_one(studio, berthe.id, seed=1).id, paint_one(studio, edgar.id, seed=2).id]
    studio.gallery.hang(pictures[1], edgar.id, True)
    studio.artists.rename(berthe.id, "Berthe Morisot")
    shutil.rmtree(studio.settings.data_dir / "timelines" / pictures[0])
    before = [studio.gallery.get(pictures[1], edgar.id), studio.gallery.get(pictures[0], berthe.id)]
    data_dir = studio.settings.data_dir
    studio.close()

    (data_dir / "index.sqlite").unlink()
    studio = open_studio(start=False)
    after = [studio.gallery.get(pictures[1], edgar.id), studio.gallery.get(pictures[0], berthe.id)]
    assert [(a.id, a.artist_name, a.recipe, a.hung) for a in after] == [
        (b.id, b.artist_name, b.recipe, b.hung) for b in before
    ]
    assert after[1].artist_name == "Berthe Morisot"
    assert [artwork.has_timeline for artwork in after] == [True, False]
    assert abs((after[0].created - before[0].created).total_seconds()) < 1
    assert [artwork.id for artwork in studio.gallery.wall(limit=9)] == [pictures[1]]


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b""])
def test_a_damaged_index_is_set_aside_and_rebuilt(open_studio: OpenStudio, damage: bytes) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    picture = paint_one(studio, berthe.id).id
    data_dir = studio.settings.data_dir
    for attempt in (1, 2):
        studio.close()
        (data_dir / "index.sqlite").write_bytes(damage)
        studio = open_studio(start=False)
        assert studio.gallery.get(picture, berthe.id).artist_name == "Berthe"
        aside = data_dir / f"index.sqlite.damaged-{attempt}"
        assert aside.exists() == bool(damage)
        if damage:
            assert aside.read_bytes() == damage


def test_a_page_damaged_in_the_middle_is_noticed(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    picture = paint_one(studio, berthe.id).id
    file = studio.settings.data_dir / "index.sqlite"
    studio.close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    assert open_studio(start=False).gallery.get(picture, berthe.id).id == picture


def test_a_disk_without_room_is_not_taken_for_damage(tmp_path: Path, open_studio: OpenStudio) -> None:
    with small_disk(tmp_path / "disk", size="256k") as disk:
        studio = open_studio(data_dir=disk, start=False)
        studio.close()
        index = disk / "index.sqlite"
        before = index.read_bytes()
        index.unlink()
        (disk / "filler").write_bytes(bytes(200_000))
        with pytest.raises(BadInput, match="cannot be used: database or disk is full"):
            open_studio(data_dir=disk, start=False)
        (disk / "filler").unlink()
        index.write_bytes(before)
        open_studio(data_dir=disk, start=False).close()
        assert not list(disk.glob("*damaged*"))


def test_the_index_of_a_later_atelier_is_left_alone(open_studio: OpenStudio) -> None:
    studio = open_studio(start=False)
    index = studio.settings.data_dir / "index.sqlite"
    studio.close()
    with contextlib.closing(sqlite3.connect(index, isolation_level=None)) as elsewhere:
        elsewhere.execute("UPDATE meta SET value = '99'")
    for _ in range(2):  # the refusal let go of everything it had taken
        with pytest.raises(BadInput, match="schema 99"):
            open_studio(start=False)
    assert not list(index.parent.glob("*damaged*"))


def test_strange_files_do_not_stop_a_rebuild(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    picture = paint_one(studio, berthe.id).id
    data_dir = studio.settings.data_dir
    studio.close()
    (data_dir / "index.sqlite").unlink()
    folder = data_dir / "artworks" / berthe.id
    (folder / "holiday.png").write_bytes(b"not a picture")
    (folder / f"{'0' * 32}.png").write_bytes(b"not a picture")
    (data_dir / "artworks" / "stray.txt").touch()
    (folder / "artist.json").write_text("{")
    studio = open_studio(start=False)
    (artwork,) = studio.gallery.own(berthe.id, limit=9)
    assert artwork.id == picture
    assert artwork.artist_name == "unknown"
    assert read_png_recipe(studio.gallery.file(picture, berthe.id)) == artwork.recipe
