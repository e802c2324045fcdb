"""Sketches: the newest wins, nothing is kept, and nobody else waits longer for a step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from torch import Tensor

from pipelines.denoising import Rows
from pipelines.models.sd import StableDiffusion
from pipelines.recipe import BadInput
from studio.sketches import Sketch
from studio.studio import Studio
from tests.studio.conftest import browser, paint_one, read_events, served, wait_until
from tests.studio.recipes import recipe_for
from tests.tiny import build_tiny_sd

OpenStudio = Callable[..., Studio]
Calls = list[tuple[str, int]]
FIELDS = {"prompt": "a boat", "negative_prompt": "", "seed": "7", "width": "64", "height": "64"}


def sketch(studio: Studio, artist_id: str, **changes: object) -> Sketch:
    return studio.sketch(artist_id, lambda: None, **(FIELDS | changes))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Every call of a network: which weights answered, and how wide the picture is in latent pixels."""
    noted: Calls = []
    predict = StableDiffusion.predict

    def note(model: StableDiffusion, rows: Rows) -> Tensor:
        noted.append((rows.adapter, rows.latents.shape[-1]))
        return predict(model, rows)

    monkeypatch.setattr(StableDiffusion, "predict", note)
    return noted


def test_a_sketch_is_shown_and_not_kept(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    woken = threading.Event()
    asked = studio.sketch(berthe.id, woken.set, **FIELDS)
    wait_until(lambda: asked.look.ended)
    assert (asked.look.state, asked.look.sentence) == ("done", "")
    assert asked.look.image.startswith("data:image/webp;base64,")
    assert woken.is_set()
    recipe = asked.recipe
    assert (recipe.sampler, recipe.num_inference_steps, recipe.guidance_scale) == ("LCM", 4, 1.0)
    assert recipe.seed == 7
    assert studio.gallery.own(berthe.id, limit=9) == []
    assert studio.jobs.active(berthe.id) is None
    assert not any((studio.settings.data_dir / "timelines").iterdir())
    # Kept, it is an ordinary picture of the same recipe.
    assert paint_one(studio, berthe.id, **dict(recipe)).state == "done"


def test_the_newest_wins_and_the_others_cost_nothing(open_studio: OpenStudio, calls: Calls) -> None:
    studio = open_studio(start=False)
    berthe = studio.artists.create("Berthe")
    asked = [sketch(studio, berthe.id, prompt="a boat"[:length]) for length in range(1, 7)]
    assert [one.look.state for one in asked] == ["gone"] * 5 + ["queued"]
    studio.start()
    wait_until(lambda: asked[-1].look.ended)
    assert asked[-1].look.state == "done"
    assert calls == [("lcm", 32)] * 4
    late = sketch(studio, berthe.id)
    studio.sketches.let_go(late)
    paint_one(studio, berthe.id)
    assert late.look.state == "gone"
    assert calls.count(("lcm", 32)) < 8, "it left before its end"


def test_nobody_else_waits_longer_for_a_step(studio: Studio, calls: Calls) -> None:
    """Berthe's own picture rests while her sketch is drawn: Edgar's goes on every second call, as before."""
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")

    def submit(artist_id: str, width: int) -> str:
        long = recipe_for(studio, width=width, num_inference_steps=40, guidance_scale=1.0)
        return studio.submit(artist_id, [long])

    hers, his = submit(berthe.id, 64), submit(edgar.id, 128)
    wait_until(lambda: studio.jobs.live(hers)[0].step > 2 and studio.jobs.live(his)[0].step > 2)
    asked = sketch(studio, berthe.id, width="96")
    wait_until(lambda: asked.look.ended)
    assert asked.look.state == "done"
    wait_until(lambda: studio.jobs.live(hers)[0].ended and studio.jobs.live(his)[0].ended)
    widths = [width for _, width in calls]
    first, last = widths.index(48), len(widths) - 1 - widths[::-1].index(48)
    during = widths[first : last + 1]
    assert 32 not in during, "her picture rests"
    assert during.count(64) >= 3
    his_calls = [index for index, width in enumerate(widths[: last + 1]) if width == 64]
    assert max(b - a for a, b in pairwise(his_calls)) <= 2
    assert [job.state for job in (*studio.jobs.live(hers), *studio.jobs.live(his))] == ["done", "done"]


def test_a_page_watches_its_sketch_and_cancels_it_by_leaving(
    open_studio: OpenStudio, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alike(_picture: object) -> bytes:
        return b"alike"

    # The last step may look to the bit as the finished picture does; the end shows it all the same.
    monkeypatch.setattr("studio.sketches.webp_bytes", alike)
    studio = open_studio(start=False)
    with served(studio) as address, browser(address, "Berthe") as berthe, browser(address) as nobody:
        wait_until(lambda: studio.model_state.state == "ready")
        with berthe.stream("GET", "/sketch", params=FIELDS) as response:
            events = list(read_events(response))
        assert [event.name for event in events[:-1]] == ["sketch"] * (len(events) - 1)
        assert events[-1].name == "end"
        last = events[-2].data
        assert (last["state"], bool(last["image"])) == ("done", True)
        for client, field, changes in ((berthe, "width", {"width": "65"}), (nobody, "artist", {})):
            with client.stream("GET", "/sketch", params=FIELDS | changes) as response:
                refused, end = read_events(response)
            assert (refused.name, refused.data["field"], end.name) == ("refused", field, "end")

        # A large one, left at once: the painter is free again long before it could have been finished.
        large = FIELDS | {"width": "256", "height": "256"}
        with berthe.stream("GET", "/sketch", params=large) as response:
            heard = read_events(response)
            while next(heard).data["state"] != "drawing":
                pass
            assert studio.sketches.artists
        wait_until(lambda: not studio.sketches.artists)
        assert ("lcm", 128) in calls
        assert calls.count(("lcm", 128)) < 4


def test_without_a_companion_there_are_no_sketches(tmp_path: Path, open_studio: OpenStudio) -> None:
    studio = open_studio(model=str(build_tiny_sd(tmp_path / "alone")), start=False)
    berthe = studio.artists.create("Berthe")
    with pytest.raises(BadInput, match="alone has no few-step weights beside it"):
        sketch(studio, berthe.id)
    with pytest.raises(BadInput, match="few-step weights of its own, and alone has none"):
        studio.submit(berthe.id, [recipe_for(studio, sampler="LCM")])
    with served(studio) as address, browser(address, "Berthe") as client:
        assert client.get("/sketch", params=FIELDS).status_code == 404
