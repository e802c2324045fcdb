from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines.batching import StepBatcher
from pipelines.recipe import MAX_PICTURES, BadInput
from studio.gallery import NotHers
from studio.jobs import Job
from studio.provenance import read_png_recipe
from studio.settings import Settings
from studio.studio import Studio
from tests.studio.conftest import paint_one, small_disk, wait_for_end, wait_until
from tests.studio.recipes import recipe_for
from tests.tiny import build_tiny_sd

OpenStudio = Callable[..., Studio]


def test_a_picture_is_painted_saved_and_listed(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    job = paint_one(studio, berthe.id, num_inference_steps=6)
    assert (job.state, job.step, job.steps, job.artwork) == ("done", 6, 6, job.id)
    assert job.timeline_ready
    assert job.previews
    assert job.previews[-1][0] == 5
    assert all(url.startswith("data:image/webp;base64,") for _, url in job.previews)
    assert read_png_recipe(studio.gallery.file(job.id, berthe.id)) == job.recipe
    timeline = studio.settings.data_dir / "timelines" / job.id
    assert sorted(path.name for path in timeline.iterdir()) == [
        "denoised.webp",
        *(f"frame-{step:03d}.safetensors" for step in range(6)),
        "latents.webp",
        "timeline.json",
    ]


def test_the_same_recipe_gives_the_same_pixels_in_a_busy_studio(open_studio: OpenStudio) -> None:
    studio = open_studio(runs_per_artist=4)
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    alone = paint_one(studio, berthe.id, seed=7)
    crowd = studio.submit(edgar.id, [recipe_for(studio, seed=seed) for seed in range(8)])
    busy = studio.submit(berthe.id, [recipe_for(studio, seed=seed) for seed in (6, 7)])
    wait_for_end(studio, edgar.id, crowd)
    again = wait_for_end(studio, berthe.id, busy)[1]
    other = wait_for_end(studio, berthe.id, busy)[0]
    pixels = {}
    for job in (alone, again, other):
        with Image.open(studio.gallery.file(job.id, berthe.id)) as image:
            pixels[job.id] = image.tobytes()
    assert pixels[alone.id] == pixels[again.id] != pixels[other.id]


def test_nobody_waits_for_anothers_pictures(studio: Studio) -> None:
    """Sixteen pictures of one artist do not keep another from beginning at once."""
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    many = [recipe_for(studio, seed=seed, num_inference_steps=30) for seed in range(MAX_PICTURES)]
    hers = studio.submit(berthe.id, many)
    wait_until(lambda: studio.jobs.live(hers)[0].step > 0)
    his = studio.submit(edgar.id, [recipe_for(studio, num_inference_steps=30)])
    wait_until(lambda: studio.jobs.live(his)[0].step > 0)
    assert sum(job.ended for job in studio.jobs.live(hers)) < 3
    wait_until(lambda: studio.jobs.live(his)[0].state == "done")
    assert sum(job.ended for job in studio.jobs.live(hers)) < 4
    studio.cancel(berthe.id, hers)


def test_a_picture_asked_for_singly_comes_before_many(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    many = [recipe_for(studio, seed=seed, num_inference_steps=20) for seed in range(MAX_PICTURES)]
    sheet = studio.submit(berthe.id, many)
    wait_until(lambda: studio.jobs.live(sheet)[0].step > 0)
    single = studio.submit(berthe.id, [recipe_for(studio, seed=99)])
    assert studio.jobs.live(single)[0].ahead <= 1, "but for the one that is being painted"
    wait_until(lambda: studio.jobs.live(single)[0].state == "done")
    assert sum(job.ended for job in studio.jobs.live(sheet)) < 4
    studio.cancel(berthe.id, sheet)


def test_one_artists_pictures_come_in_order(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    group = studio.submit(berthe.id, [recipe_for(studio, seed=seed) for seed in range(4)])
    assert [job.ahead for job in studio.jobs.live(group) if job.state == "queued"][-1] == 3
    begun: list[int] = []

    def all_done() -> bool:
        jobs = studio.jobs.live(group)
        begun.extend(job.index for job in jobs if job.step and job.index not in begun)
        return all(job.ended for job in jobs)

    wait_until(all_done)
    assert begun == sorted(begun)


def test_a_queued_and_a_running_picture_are_cancelled(studio: Studio) -> None:
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    group = studio.submit(
        berthe.id,
        [recipe_for(studio, seed=seed, num_inference_steps=150, width=128, height=128) for seed in range(2)],
    )
    wait_until(lambda: studio.jobs.live(group)[0].step > 2)
    with pytest.raises(NotHers):
        studio.cancel(edgar.id, group)
    studio.cancel(berthe.id, group)
    assert [job.state for job in studio.jobs.live(group)] == ["cancelled", "cancelled"]
    running = studio.jobs.live(group)[0]
    job = paint_one(studio, berthe.id)
    assert job.state == "done"
    assert studio.jobs.live(group)[0].step == running.step
    assert [artwork.id for artwork in studio.gallery.own(berthe.id, limit=9)] == [job.id]
    wait_until(lambda: not (studio.settings.data_dir / "timelines" / running.id).exists())
    studio.cancel(berthe.id, group)  # again: nothing happens


def test_cancelling_races_with_finishing_and_one_of_them_wins(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    for delay in range(12):
        group = studio.submit(berthe.id, [recipe_for(studio, num_inference_steps=1 + delay)])
        wait_until(lambda group=group, delay=delay: studio.jobs.live(group)[0].step >= delay)
        studio.cancel(berthe.id, group)
        (job,) = wait_for_end(studio, berthe.id, group)
        listed = {artwork.id for artwork in studio.gallery.own(berthe.id, limit=99)}
        assert (job.id in listed) == (job.state == "done")
        assert job.state in ("done", "cancelled")
    folder = studio.settings.data_dir / "artworks" / berthe.id
    listed = {artwork.id for artwork in studio.gallery.own(berthe.id, limit=99)}
    assert {path.stem for path in folder.glob("*.png")} == listed


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


def test_an_unread_end_of_a_prompt_is_noted(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    job = paint_one(studio, berthe.id, "abcdefghijklmnopqrstuvwxyz")
    assert "negative" not in job.notes[0]
    assert "“o" in job.notes[0]
    assert job.state == "done"


def test_a_sampler_that_the_model_does_not_follow_is_refused_at_once(
    tmp_path: Path, open_studio: OpenStudio
) -> None:
    folder = build_tiny_sd(tmp_path / "zero-snr", prediction_type="v_prediction")
    config = folder / "scheduler" / "scheduler_config.json"
    schedule = json.loads(config.read_text()) | {"rescale_betas_zero_snr": True}
    config.write_text(json.dumps(schedule))
    studio = open_studio(model=str(folder), start=False)
    berthe = studio.artists.create("Berthe")
    with pytest.raises(BadInput, match="Heun cannot follow"):
        studio.submit(berthe.id, [recipe_for(studio, sampler="Heun")])


def test_too_many_or_no_pictures_are_refused(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    for count in (0, MAX_PICTURES + 1):
        with pytest.raises(BadInput, match="1 to 16"):
            studio.submit(berthe.id, [recipe_for(studio)] * count)
    with pytest.raises(BadInput, match="name"):
        studio.submit("nobody", [recipe_for(studio)])


def test_unfinished_pictures_are_painted_after_a_restart(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    recipes = [
        recipe_for(studio),
        recipe_for(studio, "second", num_inference_steps=150),
        recipe_for(studio, "third"),
    ]
    group = studio.submit(berthe.id, recipes)
    wait_until(lambda: studio.jobs.live(group)[0].ended and studio.jobs.live(group)[1].step > 2)
    before = studio.jobs.live(group)
    studio.close()
    assert not before[1].ended

    studio = open_studio(start=False)
    assert [job.id for job in studio.jobs.of_group(berthe.id, group)] == [job.id for job in before]
    assert [job.state for job in studio.jobs.of_group(berthe.id, group)] == ["done", "queued", "queued"]
    assert studio.jobs.active(berthe.id) == group
    studio.start()
    jobs = wait_for_end(studio, berthe.id, group)
    assert [(job.id, job.state, job.recipe) for job in jobs] == [
        (job.id, "done", recipe) for job, recipe in zip(before, recipes, strict=True)
    ]
    assert len(studio.gallery.own(berthe.id, limit=9)) == 3
    wait_until(lambda: all(artwork.has_timeline for artwork in studio.gallery.own(berthe.id, limit=9)))
    assert studio.jobs.active(berthe.id) is None


def test_cancelled_pictures_stay_cancelled_after_a_restart(open_studio: OpenStudio) -> None:
    studio = open_studio(start=False)
    berthe = studio.artists.create("Berthe")
    group = studio.submit(berthe.id, [recipe_for(studio)])
    studio.cancel(berthe.id, group)
    studio.close()
    studio = open_studio(start=False)
    assert [job.state for job in studio.jobs.of_group(berthe.id, group)] == ["cancelled"]
    assert studio.jobs.counts() == {"queued": 0, "running": 0}


def test_ended_groups_are_forgotten_and_read_from_the_index(open_studio: OpenStudio) -> None:
    studio = open_studio(keep_live_s=0)
    berthe = studio.artists.create("Berthe")
    group = studio.submit(berthe.id, [recipe_for(studio)])
    wait_until(lambda: not studio.jobs.live(group))
    (job,) = studio.jobs.of_group(berthe.id, group)
    assert (job.state, job.artwork, job.timeline_ready, job.previews) == ("done", job.id, True, ())


def test_a_picture_deleted_while_its_timeline_is_drawn_leaves_nothing(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    group = studio.submit(berthe.id, [recipe_for(studio, num_inference_steps=50)])
    wait_until(lambda: studio.jobs.live(group)[0].ended)
    studio.gallery.delete(studio.jobs.live(group)[0].id, berthe.id)
    (job,) = wait_for_end(studio, berthe.id, group)
    wait_until(lambda: not (studio.settings.data_dir / "timelines" / job.id).exists())
    assert paint_one(studio, berthe.id).state == "done"


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


def test_memory_of_ended_pictures_is_let_go(open_studio: OpenStudio) -> None:
    """No thread, job or canvas stays behind, whatever became of the pictures."""
    threads = threading.active_count()
    studio = open_studio(keep_live_s=0)
    berthe = studio.artists.create("Berthe")
    groups = [studio.submit(berthe.id, [recipe_for(studio, seed=seed)]) for seed in range(6)]
    studio.cancel(berthe.id, groups[4])
    wait_until(lambda: not any(studio.jobs.live(group) for group in groups))
    ends = [studio.jobs.of_group(berthe.id, group)[0].state for group in groups]
    assert ends == ["done"] * 4 + ["cancelled", "done"]
    studio.close()
    assert threading.active_count() <= threads


def test_every_job_is_told_of_in_versions_that_grow(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    group = studio.submit(berthe.id, [recipe_for(studio, num_inference_steps=20)])
    seen: list[Job] = []

    def settled() -> bool:
        seen.extend(studio.jobs.live(group))
        return seen[-1].settled

    wait_until(settled)
    assert [job.version for job in seen] == sorted(job.version for job in seen)
    assert [job.step for job in seen] == sorted(job.step for job in seen)


def test_settings_name_the_users_own_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Settings().data_dir == tmp_path / "atelier"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert Settings().data_dir == Path.home() / ".local" / "share" / "atelier"
