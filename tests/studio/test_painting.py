"""Pictures are painted, saved and listed, in their order, and survive a restart."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipelines.recipe import MAX_PICTURES, BadInput
from studio.gallery import NotHers
from studio.jobs import Job
from studio.provenance import read_png_recipe
from studio.settings import Settings
from studio.studio import Studio
from tests.studio.conftest import paint_one, wait_for_end, wait_until
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
