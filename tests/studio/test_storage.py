"""Timelines have a budget and may be damaged; pictures stay, and a timeline can be painted again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipelines.recipe import BadInput
from studio.gallery import NotHers
from studio.jobs import Job
from studio.storage import in_words
from studio.studio import Studio
from tests.studio.conftest import browser, paint_one, served, wait_for_end, wait_until
from tests.tiny import build_tiny_sd

OpenStudio = Callable[..., Studio]


def folder_of(studio: Studio, artwork_id: str) -> Path:
    return studio.settings.data_dir / "timelines" / artwork_id


def kept(studio: Studio, artist_id: str) -> list[str]:
    """List which of an artist's timelines are there, oldest first."""
    return [artwork.id for artwork in studio.gallery.own(artist_id, limit=99) if artwork.has_timeline][::-1]


def test_the_oldest_unpinned_timelines_make_room_and_no_picture_does(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    jobs = [paint_one(studio, berthe.id, seed=seed) for seed in range(2)]
    his = paint_one(studio, edgar.id)
    usage = studio.storage.usage(berthe.id)
    assert (usage.timelines, usage.pinned) == (2, 0)
    assert usage.used_bytes == sum(
        file.stat().st_size for job in jobs for file in folder_of(studio, job.id).iterdir()
    )
    studio.storage.pin(jobs[0].id, berthe.id, True)
    with pytest.raises(NotHers):
        studio.storage.pin(jobs[0].id, edgar.id, False)
    studio.close()

    room = round(usage.used_bytes / 2 * 3.5)
    studio = open_studio(timeline_budget_bytes=room)
    jobs += [paint_one(studio, berthe.id, seed=seed) for seed in (2, 3)]
    first, second, third, fourth = (job.id for job in jobs)
    assert jobs[2].notes == ()
    assert jobs[3].notes == ("To make room, your oldest timeline was dropped; its picture stays.",)
    assert kept(studio, berthe.id) == [first, third, fourth]
    assert kept(studio, edgar.id) == [his.id]
    assert [path.name for path in folder_of(studio, second).iterdir()] == ["dropped"]
    assert studio.gallery.file(second, berthe.id).exists()
    with pytest.raises(BadInput, match=r"dropped to make room .* The picture is kept"):
        studio.timeline(second, berthe.id)
    assert studio.storage.usage(berthe.id).used_bytes <= room
    studio.close()

    # What decides is in the files: the index is made anew, and the next to go is the same.
    (studio.settings.data_dir / "index.sqlite").unlink()
    studio = open_studio(timeline_budget_bytes=room)
    assert sorted(kept(studio, berthe.id)) == sorted([first, third, fourth])
    usage = studio.storage.usage(berthe.id)
    assert (usage.timelines, usage.pinned, usage.budget_bytes) == (3, 1, room)
    fifth = paint_one(studio, berthe.id, seed=4).id
    assert sorted(kept(studio, berthe.id)) == sorted([first, fourth, fifth])
    with pytest.raises(BadInput, match="dropped"):
        studio.timeline(second, berthe.id)

    # Pins may fill the room, not pass it; the picture just painted keeps its timeline in any case.
    studio.storage.pin(fourth, berthe.id, True)
    studio.storage.pin(fifth, berthe.id, True)
    sixth = paint_one(studio, berthe.id, seed=5).id
    assert sorted(kept(studio, berthe.id)) == sorted([first, fourth, fifth, sixth])
    with pytest.raises(BadInput, match=f"fill your room of {in_words(room)}"):
        studio.storage.pin(sixth, berthe.id, True)
    assert len(studio.gallery.own(berthe.id, limit=99)) == 6


def missing_frame(folder: Path) -> None:
    (folder / "frame-001.safetensors").unlink()


def truncated_frames(folder: Path) -> None:
    for step in (0, 2):
        os.truncate(folder / f"frame-{step:03d}.safetensors", 500)


def garbage_frame(folder: Path) -> None:
    (folder / "frame-003.safetensors").write_bytes(b"garbage" * 1000)


def broken_json(folder: Path) -> None:
    (folder / "timeline.json").write_text('{"recipe": {')


def other_json(folder: Path) -> None:
    (folder / "timeline.json").write_text("[]")


def missing_sheet(folder: Path) -> None:
    (folder / "latents.webp").unlink()


def truncated_sheet(folder: Path) -> None:
    os.truncate(folder / "denoised.webp", 100)


def no_sheets(folder: Path) -> None:
    for sheet in folder.glob("*.webp"):
        sheet.unlink()


def missing_json(folder: Path) -> None:
    (folder / "timeline.json").unlink()


def missing_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


# How a timeline is damaged, what the artist reads, and the layers that can still be shown.
BOTH = ["latents", "denoised"]
DAMAGES: list[tuple[Callable[[Path], None], str, list[str]]] = [
    (missing_frame, "The latents of step 2 are missing or damaged:", BOTH),
    (truncated_frames, "The latents of steps 1 and 3 are missing or damaged:", BOTH),
    (garbage_frame, "The latents of step 4 are missing or damaged:", BOTH),
    (missing_sheet, "The pictures of what is there are missing or damaged.", ["denoised"]),
    (truncated_sheet, "The pictures of what the model sees are missing or damaged.", ["latents"]),
    (broken_json, "The numbers of this timeline (timeline.json) cannot be read", []),
    (other_json, "The numbers of this timeline (timeline.json) cannot be read", []),
    (missing_json, "There is no timeline of this picture here. The picture is kept.", []),
    (no_sheets, "The pictures of this timeline are missing or damaged.", []),
    (missing_folder, "There is no timeline of this picture here. The picture is kept.", []),
]


def parts(folder: Path) -> dict[str, bytes]:
    """Read a timeline; of the sheets only that they are there, previews that came are drawn into them."""
    return {file.name: b"" if file.suffix == ".webp" else file.read_bytes() for file in folder.iterdir()}


def test_damage_is_told_and_mended_and_breaks_nothing_else(open_studio: OpenStudio) -> None:
    studio = open_studio(start=False)
    with served(studio) as address, browser(address, "Berthe") as berthe:
        artist_id = berthe.get("/artist").json()["id"]
        job, other = paint_one(studio, artist_id), paint_one(studio, artist_id, seed=2)
        folder, picture = folder_of(studio, job.id), studio.gallery.file(job.id, artist_id)
        whole = parts(folder)
        painted, undisturbed = picture.read_bytes(), berthe.get(f"/timelines/{other.id}").json()
        told_whole = berthe.get(f"/timelines/{job.id}").json()
        assert told_whole["gone"] == []
        for damage, sentence, layers in DAMAGES:
            damage(folder)
            answer = berthe.get(f"/timelines/{job.id}")
            told = answer.json()
            if layers:
                assert list(told["layers"]) == layers, damage.__name__
                assert len(told["gone"]) == 1
                assert told["gone"][0].startswith(sentence), told["gone"]
            else:
                assert answer.status_code == 422, damage.__name__
                assert told["sentence"].startswith(sentence), told
                assert str(folder) not in told["sentence"]
                assert studio.storage.usage(artist_id).timelines == 1
            for layer in BOTH if layers else []:
                answer = berthe.get(f"/timelines/{job.id}/{layer}.webp")
                assert answer.status_code == (200 if layer in layers else 422), damage.__name__
            assert berthe.get(f"/artworks/{job.id}.png").content == painted
            assert berthe.get(f"/timelines/{other.id}").json() == undisturbed

            group = studio.repaint(artist_id, job.id)
            (again,) = wait_for_end(studio, artist_id, group)
            assert (again.state, again.artwork, again.notes) == ("done", job.id, ())
            assert again.timeline_ready
            assert parts(folder) == whole, damage.__name__
            assert berthe.get(f"/timelines/{job.id}").json() == told_whole
            assert picture.read_bytes() == painted
        assert {path.name for path in folder.parent.iterdir()} == {job.id, other.id}
        assert len(studio.gallery.own(artist_id, limit=9)) == 2
        assert studio.storage.usage(artist_id).timelines == 2


def repainting(studio: Studio, artist_id: str) -> tuple[Job, str]:
    """Have the long timeline of a picture painted again, and come to the middle of it."""
    job = paint_one(studio, artist_id, num_inference_steps=40)
    missing_sheet(folder_of(studio, job.id))
    group = studio.repaint(artist_id, job.id)
    wait_until(lambda: studio.jobs.live(group)[0].step > 0)
    return job, group


def test_painting_again_can_be_cancelled_and_outlives_a_restart(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    job, group = repainting(studio, berthe.id)
    assert studio.repaint(berthe.id, job.id) == group, "it is painted once"
    studio.cancel(berthe.id, group)
    (cancelled,) = wait_for_end(studio, berthe.id, group)
    assert cancelled.state == "cancelled"
    wait_until(lambda: not folder_of(studio, cancelled.id).exists())
    assert studio.timeline(job.id, berthe.id)["count"] == 40, "what there was is still there"
    studio.gallery.hang(job.id, berthe.id, True)
    with pytest.raises(NotHers):
        studio.repaint(edgar.id, job.id)

    group = studio.repaint(berthe.id, job.id)
    wait_until(lambda: studio.jobs.live(group)[0].step > 0)
    studio.close()
    studio = open_studio()
    (again,) = wait_for_end(studio, berthe.id, group)
    assert (again.state, again.artwork) == ("done", job.id)
    assert studio.timeline(job.id, berthe.id)["gone"] == []
    studio.close()
    studio = open_studio(start=False)
    (stored,) = studio.jobs.of_group(berthe.id, group)
    assert (stored.state, stored.artwork, stored.repaints) == ("done", job.id, job.id)
    assert len(studio.gallery.own(berthe.id, limit=9)) == 1


def test_a_picture_deleted_meanwhile_leaves_nothing(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    job, group = repainting(studio, berthe.id)
    studio.storage.pin(job.id, berthe.id, True)
    studio.gallery.delete(job.id, berthe.id)
    wait_for_end(studio, berthe.id, group)
    wait_until(lambda: not list(studio.settings.data_dir.rglob(f"*{job.id}*")))
    wait_until(lambda: not list((studio.settings.data_dir / "timelines").iterdir()))


def test_an_index_from_before_there_was_a_budget_is_taken_over(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    job = paint_one(studio, berthe.id)
    before, group = studio.storage.usage(berthe.id), job.group
    index = studio.settings.data_dir / "index.sqlite"
    studio.close()
    with closing(sqlite3.connect(index, isolation_level=None)) as older:
        for table, column in (
            ("artworks", "pinned"),
            ("artworks", "timeline_bytes"),
            ("artworks", "timeline_drawn"),
            ("jobs", "repaints"),
        ):
            older.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    studio = open_studio()
    assert studio.storage.usage(berthe.id) == before
    assert studio.jobs.of_group(berthe.id, group)[0].state == "done"
    assert not list(index.parent.glob("*damaged*"))


def test_a_picture_of_another_model_says_who_can_paint_it(open_studio: OpenStudio, tmp_path: Path) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    job = paint_one(studio, berthe.id)
    missing_folder(folder_of(studio, job.id))
    studio.close()
    other = build_tiny_sd(tmp_path / "other")
    weights = other / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.bias"] = tensors["conv_out.bias"] + 1
    save_file(tensors, weights, {"format": "pt"})
    studio = open_studio(start=False, model=str(other))
    with pytest.raises(BadInput, match=r"painted with tiny \(\w{8}\), and this studio has other"):
        studio.repaint(berthe.id, job.id)
