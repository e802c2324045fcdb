from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing

import httpx
import pytest

from pipelines.recipe import BadInput
from studio.artists import COOKIE
from studio.http import ASSETS
from studio.serve import listen
from studio.studio import Studio
from tests.studio.conftest import (
    Event,
    browser,
    paint_one,
    read_events,
    served,
    wait_for_end,
    wait_until,
)
from tests.studio.recipes import recipe_for

OpenStudio = Callable[..., Studio]


@pytest.fixture
def studio(open_studio: OpenStudio) -> Studio:
    return open_studio(start=False)  # the server starts it


@pytest.fixture
def address(studio: Studio) -> Generator[str]:
    with served(studio) as url:
        yield url


@pytest.fixture
def berthe(address: str) -> Generator[httpx.Client]:
    with browser(address, "Berthe") as client:
        yield client


@pytest.fixture
def edgar(address: str) -> Generator[httpx.Client]:
    with browser(address, "Edgar") as client:
        yield client


def id_of(client: httpx.Client) -> str:
    artist_id: str = client.get("/artist").json()["id"]
    return artist_id


def stream(client: httpx.Client, group: str) -> list[Event]:
    """Watch a group to its end."""
    with client.stream("GET", f"/jobs/{group}/stream") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        return list(read_events(response))


def test_health_says_how_far_the_model_is(studio: Studio, address: str) -> None:
    wait_until(lambda: studio.model_state.state == "ready")
    health = httpx.get(f"{address}/healthz").json()
    assert health == {
        "status": "ready",
        "model": "tiny",
        "device": studio.model_state.device,
        "queue": {"queued": 0, "running": 0},
        "sentence": "tiny is ready.",
    }


def test_a_browser_is_asked_once_for_a_name(address: str) -> None:
    with browser(address) as client:
        assert client.get("/artist").status_code == 404
        answer = client.post("/artist", json={"name": " Berthe "})
        assert answer.json()["name"] == "Berthe"
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Max-Age=315360000" in cookie
        known = client.get("/artist").json()
        assert known == answer.json()
        renamed = client.post("/artist", json={"name": "Berthe Morisot"}).json()
        assert renamed == {"id": known["id"], "name": "Berthe Morisot"}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"name": ""}', "application/json", 422),
        (b'{"name": "' + b"x" * 41 + b'"}', "application/json; charset=utf-8", 422),
        (b'{"name": 7}', "application/json", 422),
        (b'{"nom": "Berthe"}', "application/json", 422),
        (b"{", "application/json", 422),
        (b" " * 1_000_000, "application/json", 422),
        (b'{"name": "Berthe"}', "text/plain", 415),
        (b"name=Berthe", "application/x-www-form-urlencoded", 415),
    ],
)
def test_a_bad_name_gets_a_sentence(address: str, body: bytes, kind: str, status: int) -> None:
    answer = httpx.post(f"{address}/artist", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["sentence"]
    assert "set-cookie" not in answer.headers


def test_a_stream_tells_the_whole_story(studio: Studio, berthe: httpx.Client) -> None:
    recipes = [recipe_for(studio, seed=seed, num_inference_steps=8) for seed in (1, 2)]
    group = studio.submit(id_of(berthe), recipes)
    events = stream(berthe, group)
    assert events[-1].name == "end"
    assert {event.name for event in events[:-1]} == {"job"}
    for index in (0, 1):
        story = [event.data for event in events if event.data.get("index") == index]
        states = [data["state"] for data in story]
        assert list(dict.fromkeys(states)) in (["queued", "running", "done"], ["running", "done"])
        assert story[-1]["timeline_ready"] is True
        assert story[-1]["artwork"] == story[-1]["id"]
        assert (story[-1]["step"], story[-1]["steps"]) == (8, 8)
        assert story[-1]["recipe"] == recipes[index].model_dump(mode="json")
        shown = [step for data in story for step, _ in _previews(data)]
        assert shown
        assert shown == sorted(set(shown))
        assert shown[-1] == 7
        done = next(data for data in story if data["state"] == "done")
        assert done["artwork"]


def _previews(data: dict[str, object]) -> list[tuple[int, str]]:
    previews = data["previews"]
    assert isinstance(previews, list)
    return [(step, url) for step, url in previews]


def test_a_stream_connected_again_brings_all_previews(studio: Studio, berthe: httpx.Client) -> None:
    group = studio.submit(id_of(berthe), [recipe_for(studio, num_inference_steps=60)])
    seen: list[tuple[int, str]] = []
    with berthe.stream("GET", f"/jobs/{group}/stream") as response:
        for event in read_events(response):
            seen.extend(_previews(event.data))
            if len(seen) >= 3:
                break
    wait_until(lambda: studio.jobs.watched == 0)  # a reader that left is forgotten
    first = stream(berthe, group)
    again = [preview for event in first[:-1] for preview in _previews(event.data)]
    assert again[: len(seen)] == seen
    assert [preview for event in stream(berthe, group)[:-1] for preview in _previews(event.data)] == again


def test_a_quiet_stream_is_kept_open(
    studio: Studio, berthe: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.http._HEARTBEAT_S", 0.001)
    group = studio.submit(id_of(berthe), [recipe_for(studio, num_inference_steps=30)])
    with berthe.stream("GET", f"/jobs/{group}/stream") as response:
        lines = list(response.iter_lines())
    assert lines[0] == "retry: 1000"
    assert ": still here" in lines
    assert lines[-3] == "event: end"


def test_many_watchers_all_see_the_end(studio: Studio, berthe: httpx.Client) -> None:
    group = studio.submit(id_of(berthe), [recipe_for(studio, seed=seed) for seed in range(4)])
    stories: list[list[Event]] = []
    watchers = [threading.Thread(target=lambda: stories.append(stream(berthe, group))) for _ in range(8)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join(timeout=120)
    assert [story[-1].name for story in stories] == ["end"] * 8
    for story in stories:
        last = {event.data["index"]: event.data["state"] for event in story[:-1]}
        assert last == dict.fromkeys(range(4), "done")


def test_a_stream_of_long_ago_comes_from_the_index(open_studio: OpenStudio) -> None:
    studio = open_studio(start=False, keep_live_s=0)
    with served(studio) as address, browser(address, "Berthe") as berthe:
        artist_id = id_of(berthe)
        group = studio.submit(artist_id, [recipe_for(studio)])
        wait_until(lambda: not studio.jobs.live(group))
        job, end = stream(berthe, group)
        assert (job.data["state"], job.data["timeline_ready"], job.data["previews"]) == ("done", True, [])
        assert end.name == "end"


def test_a_failed_picture_says_why(studio: Studio, berthe: httpx.Client) -> None:
    group = studio.submit(id_of(berthe), [recipe_for(studio, model_revision="f" * 64)])
    job = stream(berthe, group)[-2].data
    assert job["state"] == "failed"
    assert "Ask for it again." in str(job["sentence"])


def test_a_running_group_is_found_after_a_reload(studio: Studio, berthe: httpx.Client) -> None:
    assert berthe.get("/jobs/active").json() == {"group": None}
    group = studio.submit(id_of(berthe), [recipe_for(studio, num_inference_steps=150)])
    assert berthe.get("/jobs/active").json() == {"group": group}
    studio.cancel(id_of(berthe), group)
    assert berthe.get("/jobs/active").json() == {"group": None}


def test_nothing_of_anothers_is_seen(
    studio: Studio, address: str, berthe: httpx.Client, edgar: httpx.Client
) -> None:
    artist_id = id_of(berthe)
    job = paint_one(studio, artist_id)
    urls = [
        f"/jobs/{job.group}/stream",
        f"/artworks/{job.id}.png",
        f"/timelines/{job.id}",
        f"/timelines/{job.id}/latents.webp",
        f"/timelines/{job.id}/denoised.webp",
    ]
    with browser(address) as nobody:
        for url in urls:
            assert berthe.get(url).status_code == 200
            assert edgar.get(url).status_code == 404
            assert edgar.get(url).json() == edgar.get(url.replace(job.id, "0" * 32)).json()
            assert nobody.get(url).status_code == 401
            assert "give your name" in nobody.get(url).json()["sentence"]
        studio.gallery.hang(job.id, artist_id, True)
        for url in urls[1:]:
            assert edgar.get(url).status_code == nobody.get(url).status_code == 200
        assert edgar.get(urls[0]).status_code == 404


def test_the_picture_and_its_timeline_are_served(studio: Studio, berthe: httpx.Client) -> None:
    job = paint_one(studio, id_of(berthe), num_inference_steps=5)
    picture = berthe.get(f"/artworks/{job.id}.png")
    assert picture.content.startswith(b"\x89PNG")
    assert picture.headers["cache-control"].startswith("private")
    again = berthe.get(f"/artworks/{job.id}.png", headers={"if-none-match": picture.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    saved = berthe.get(f"/artworks/{job.id}.png?download=1")
    assert f"atelier-{job.id[:8]}.png" in saved.headers["content-disposition"]
    timeline = berthe.get(f"/timelines/{job.id}").json()
    assert timeline["count"] == 5
    assert timeline["picture"] == f"/artworks/{job.id}.png"
    assert timeline["steps"][0].keys() == {
        "step",
        "timestep",
        "sigma",
        "guidance_norm",
        "change",
        "space",
    }
    for url in timeline["layers"].values():
        sheet = berthe.get(url)
        assert sheet.headers["content-type"] == "image/webp"
        assert sheet.content[8:12] == b"WEBP"


@pytest.mark.parametrize(
    "url",
    [
        "/artworks/..%2f..%2fsecret.png",
        "/artworks/%2e%2e%2fsecret.png",
        "/timelines/..%2f..%2findex.sqlite",
        "/timelines/../secret",
        "/atelier/css/..%2f..%2fREADME.md",
        "/atelier/css/../../README.md",
    ],
)
def test_no_path_leads_out(berthe: httpx.Client, url: str) -> None:
    assert berthe.get(url).status_code in (401, 404)


def test_assets_are_served_and_asked_about_again(berthe: httpx.Client) -> None:
    scripts = sorted((ASSETS / "js").glob("*.js"))
    if not scripts:
        pytest.skip("the page has no scripts yet")
    answer = berthe.get(f"/atelier/js/{scripts[0].name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"] == "no-cache"
    again = berthe.get(f"/atelier/js/{scripts[0].name}", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_a_timeline_that_is_not_drawn_yet_says_so(studio: Studio, berthe: httpx.Client) -> None:
    artist_id = id_of(berthe)
    group = studio.submit(artist_id, [recipe_for(studio, num_inference_steps=60)])
    wait_until(lambda: studio.jobs.live(group)[0].ended)
    early = berthe.get(f"/timelines/{studio.jobs.live(group)[0].id}")
    assert early.status_code == 422
    assert "still being drawn" in early.json()["sentence"]
    assert berthe.get("/jobs/active").json() == {"group": group}, "she can watch it being drawn"
    wait_for_end(studio, artist_id, group)
    assert berthe.get("/jobs/active").json() == {"group": None}


def test_an_open_stream_does_not_keep_the_server_from_closing(open_studio: OpenStudio) -> None:
    """Its reader connects again, to the studio that comes after, and sees the picture finish."""
    studio = open_studio(start=False)
    names: list[str] = []
    began = threading.Event()

    def watch() -> None:
        with browser(address) as client:
            client.cookies.update(cookies)
            with client.stream("GET", f"/jobs/{group}/stream") as response:
                began.set()
                names.extend(event.name for event in read_events(response))

    with served(studio) as address:
        with browser(address, "Berthe") as berthe:
            artist_id, cookies = id_of(berthe), dict(berthe.cookies)
            recipe = recipe_for(studio, num_inference_steps=50, width=128, height=128)
            group = studio.submit(artist_id, [recipe])
        watcher = threading.Thread(target=watch)
        watcher.start()
        assert began.wait(30)
        wait_until(lambda: studio.jobs.live(group)[0].step > 0)
        closing_began = time.monotonic()
    assert time.monotonic() - closing_began < 10
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    assert "end" not in names

    with served(open_studio(start=False)) as address, browser(address) as berthe:
        berthe.cookies.update(cookies)
        events = stream(berthe, group)
        assert events[-2].data["state"] == "done"
        assert events[-1].name == "end"


def test_a_taken_port_is_named() -> None:
    with closing(listen("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=rf"port {port}.*--port"):
            listen("127.0.0.1", port)
    with pytest.raises(BadInput, match=r"cannot listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0)
    with closing(listen("localhost", 0)) as free:
        assert free.family in (socket.AF_INET, socket.AF_INET6)
