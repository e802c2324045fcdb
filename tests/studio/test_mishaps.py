"""What goes wrong takes one picture with it, and never the studio."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipelines.batching import StepBatcher
from pipelines.recipe import MAX_PICTURES, BadInput
from studio.gallery import NotHers
from studio.settings import Settings
from studio.studio import Studio
from tests.studio.conftest import paint_one, small_disk, wait_for_end, wait_until
from tests.studio.recipes import recipe_for
from tests.tiny import build_tiny_sd

OpenStudio = Callable[..., Studio]


def test_a_failing_picture_fails_alone(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    foreign = recipe_for(studio, model="another", model_revision="f" * 64)
    group = studio.submit(berthe.id, [recipe_for(studio), foreign, recipe_for(studio, seed=2)])
    jobs = wait_for_end(studio, berthe.id, group)
    assert [job.state for job in jobs] == ["done", "failed", "done"]
    assert "asked of another (ffffffff)" in jobs[1].sentence


def test_numbers_that_are_not_finite_fail_with_a_sentence(tmp_path: Path, open_studio: OpenStudio) -> None:
    folder = build_tiny_sd(tmp_path / "broken")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.bias"] = tensors["conv_out.bias"] * float("nan")
    save_file(tensors, weights, {"format": "pt"})
    studio = open_studio(model=str(folder))
    berthe = studio.artists.create("Berthe")
    job = paint_one(studio, berthe.id)
    assert job.state == "failed"
    assert "out of range" in job.sentence
    assert studio.gallery.own(berthe.id, limit=9) == []
    wait_until(lambda: not (studio.settings.data_dir / "timelines" / job.id).exists())


def test_a_model_that_cannot_be_loaded_fails_jobs_with_its_reason(
    tmp_path: Path, open_studio: OpenStudio
) -> None:
    folder = build_tiny_sd(tmp_path / "broken")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    studio = open_studio(model=str(folder))
    berthe = studio.artists.create("Berthe")
    for _ in range(2):
        job = paint_one(studio, berthe.id)
        assert job.state == "failed"
        assert "The model broken cannot paint." in job.sentence
    assert studio.model_state.state == "failed"


def test_a_full_disk_fails_the_picture_and_the_studio_lives(tmp_path: Path, open_studio: OpenStudio) -> None:
    with small_disk(tmp_path / "disk", size="2m") as disk:
        studio = open_studio(data_dir=disk)
        berthe = studio.artists.create("Berthe")
        before = paint_one(studio, berthe.id)
        assert before.state == "done"

        group = studio.submit(berthe.id, [recipe_for(studio, seed=2, num_inference_steps=100)])
        wait_until(lambda: studio.jobs.live(group)[0].step > 2)
        while not studio.jobs.live(group)[0].settled:
            _fill(disk)
        (job,) = studio.jobs.live(group)
        assert job.state == "failed"
        assert "disk" in job.sentence
        assert "is full" in job.sentence
        assert [artwork.id for artwork in studio.gallery.own(berthe.id, limit=9)] == [before.id]
        assert [path.stem for path in (disk / "artworks" / berthe.id).glob("*.png")] == [before.id]
        assert not list(disk.rglob("*.part"))
        with pytest.raises(BadInput, match="is full"):
            _ask_until_refused(studio, berthe.id)
        with pytest.raises(BadInput, match="is full"):
            studio.artists.create("Edgar")

        (disk / "filler").unlink()
        assert paint_one(studio, berthe.id, seed=3).state == "done"
        studio.close()
        again = open_studio(data_dir=disk, start=False)
        assert again.jobs.of_group(berthe.id, group)[0].state == "failed"
        again.close()


def test_without_room_for_the_timeline_the_picture_is_still_kept(
    tmp_path: Path, open_studio: OpenStudio
) -> None:
    with small_disk(tmp_path / "disk", size="2m") as disk:
        studio = open_studio(data_dir=disk)
        berthe = studio.artists.create("Berthe")
        group = studio.submit(berthe.id, [recipe_for(studio, num_inference_steps=100)])
        wait_until(lambda: studio.jobs.live(group)[0].step > 2)
        _fill(disk)
        (job,) = wait_for_end(studio, berthe.id, group)
        assert (job.state, job.timeline_ready) == ("done", False)
        assert job.notes == ("There was no room on the disk for the timeline of this picture.",)
        assert not list((disk / "timelines").iterdir())
        with pytest.raises(BadInput, match="no timeline"):
            studio.timeline(job.id, berthe.id)
        studio.close()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
def test_a_file_that_may_not_grow_fails_the_picture_and_the_studio_lives(studio: Studio) -> None:
    """The same without root: here the operating system itself refuses large files for a while."""
    import resource

    berthe = studio.artists.create("Berthe")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        job = paint_one(studio, berthe.id, width=384, height=384, num_inference_steps=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert job.state == "failed"
    assert "is full" in job.sentence
    assert studio.gallery.own(berthe.id, limit=9) == []
    folder = studio.settings.data_dir / "artworks" / berthe.id
    assert [path.name for path in folder.iterdir()] == ["artist.json"]
    assert paint_one(studio, berthe.id).state == "done"


def _fill(disk: Path) -> None:
    """Write until the disk has no byte left."""
    with (disk / "filler").open("ab", buffering=0) as filler:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while filler.write(bytes(size)):
                    pass


def _ask_until_refused(studio: Studio, artist_id: str) -> None:
    """Queue and cancel until SQLite itself has no room left for a row."""
    for seed in range(1000):
        studio.cancel(artist_id, studio.submit(artist_id, [recipe_for(studio, seed=seed)] * MAX_PICTURES))


def test_a_broken_index_fails_the_picture_and_the_studio_lives(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    file = studio.settings.data_dir / "index.sqlite"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as elsewhere:
        elsewhere.execute("ALTER TABLE artworks RENAME TO stolen")
        group = studio.submit(berthe.id, [recipe_for(studio)])
        wait_until(lambda: studio.jobs.live(group)[0].ended)
        (job,) = studio.jobs.live(group)
        assert job.state == "failed"
        assert "could not read or write its index (no such table: artworks)" in job.sentence
        assert not list((studio.settings.data_dir / "artworks" / berthe.id).glob("*.png"))
        elsewhere.execute("ALTER TABLE stolen RENAME TO artworks")
    assert paint_one(studio, berthe.id).state == "done"


def test_a_mistake_of_the_painters_own_fails_whom_it_painted(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No input is known that leads there, so one is made: the batch itself breaks in the middle of a run."""
    berthe = studio.artists.create("Berthe")
    group = studio.submit(berthe.id, [recipe_for(studio, num_inference_steps=150), recipe_for(studio)])
    wait_until(lambda: studio.jobs.live(group)[0].step > 0)
    with monkeypatch.context() as broken:
        broken.setattr(StepBatcher, "tick", None)
        wait_until(lambda: all(job.state == "failed" for job in studio.jobs.live(group)))
    assert "TypeError" in studio.jobs.live(group)[0].sentence
    assert paint_one(studio, berthe.id).state == "done"
    assert len(studio.gallery.own(berthe.id, limit=9)) == 1


def test_a_timeline_left_undrawn_is_drawn_after_a_restart(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    job = paint_one(studio, berthe.id)
    drawn = studio.timeline(job.id, berthe.id)
    studio.close()
    folder = studio.settings.data_dir / "timelines" / job.id
    (folder / "denoised.webp").unlink()
    (studio.settings.data_dir / "index.sqlite").unlink()
    orphan = studio.settings.data_dir / "timelines" / "of a picture that was never finished"
    orphan.mkdir()
    studio = open_studio(start=False)
    assert not orphan.exists()
    assert studio.timeline(job.id, berthe.id)["gone"] == [
        "The pictures of what the model sees are missing or damaged."
    ]
    studio.start()
    wait_until(lambda: studio.gallery.get(job.id, berthe.id).has_timeline)
    assert studio.timeline(job.id, berthe.id) == drawn


@pytest.mark.parametrize("index_is_lost", [False, True])
def test_a_killed_studio_loses_nothing(
    settings: Settings, open_studio: OpenStudio, index_is_lost: bool
) -> None:
    """SIGKILL leaves SQLite's write-ahead log behind, also beside an index that is gone."""
    program = (
        "import os, signal\n"
        "from studio.studio import Studio\n"
        "from studio.settings import Settings\n"
        "from tests.studio.recipes import recipe_for\n"
        f"studio = Studio(Settings.model_validate_json({settings.model_dump_json()!r}))\n"
        "berthe = studio.artists.create('Berthe')\n"
        "group = studio.submit(berthe.id, [recipe_for(studio)] * 3)\n"
        "print(berthe.id, group, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (settings.data_dir / "index.sqlite-wal").exists()
    artist_id, group = killed.stdout.split()
    if index_is_lost:
        (settings.data_dir / "index.sqlite").unlink()
        studio = open_studio(start=False)
        artist = studio.artists.get(artist_id)
        assert artist is not None
        assert artist.name == "Berthe"
        with pytest.raises(NotHers):
            studio.jobs.of_group(artist_id, group)
    else:
        studio = open_studio()
        assert [job.state for job in wait_for_end(studio, artist_id, group)] == ["done"] * 3
