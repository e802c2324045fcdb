"""A timeline can be taken away, and other programs can read what was written."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable

import av
import httpx
import pytest
from PIL import Image

from studio.jobs import Job
from studio.studio import Studio
from tests.studio.conftest import browser, paint_one, served

STEPS = 5


@pytest.fixture
def exports(studio: Studio) -> tuple[Studio, Job]:
    berthe = studio.artists.create("Berthe")
    return studio, paint_one(studio, berthe.id, num_inference_steps=STEPS)


def written(exports: tuple[Studio, Job], kind: str, layer: str = "denoised", fps: int = 10) -> bytes:
    studio, job = exports
    return studio.export(job.id, job.artist_id, kind, layer, fps)[0]


@pytest.mark.parametrize(("kind", "name"), [("webp", "WEBP"), ("gif", "GIF")])
def test_animations_play_every_step_and_rest_on_the_picture(
    exports: tuple[Studio, Job], kind: str, name: str
) -> None:
    with Image.open(io.BytesIO(written(exports, kind))) as image:
        assert image.format == name
        assert image.size == (64, 64)
        assert getattr(image, "n_frames", 1) == STEPS + 1
        durations: list[int] = []
        for frame in range(STEPS + 1):
            image.seek(frame)
            image.load()
            durations.append(image.info["duration"])
    assert durations == [100] * STEPS + [1500]


def test_a_video_plays_everywhere(exports: tuple[Studio, Job]) -> None:
    with av.open(io.BytesIO(written(exports, "mp4")), mode="r") as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height) == (640, 640)
        assert video.average_rate == 10
        assert sum(1 for _ in container.decode(video)) == STEPS + 1 + 15


def test_a_filmstrip_holds_every_step(exports: tuple[Studio, Job]) -> None:
    with Image.open(io.BytesIO(written(exports, "filmstrip"))) as strip:
        assert strip.size == (4 + 6 * 68, 4 + 68)
    latents = written(exports, "filmstrip", layer="latents")
    assert latents != written(exports, "filmstrip")


def test_a_zip_holds_the_frames_and_their_numbers(exports: tuple[Studio, Job]) -> None:
    studio, job = exports
    with zipfile.ZipFile(io.BytesIO(written(exports, "zip"))) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {
            *(f"step-{step:03d}.png" for step in range(STEPS)),
            "finished.png",
            "timeline.json",
        }
        numbers = json.loads(archive.read("timeline.json"))
        with (
            Image.open(io.BytesIO(archive.read("finished.png"))) as finished,
            Image.open(studio.gallery.file(job.id, job.artist_id)) as picture,
        ):
            assert finished.tobytes() == picture.tobytes()
    assert numbers["recipe"] == job.recipe.model_dump(mode="json")
    assert [step["step"] for step in numbers["steps"]] == list(range(STEPS))


def test_exports_over_http_are_as_private_as_the_picture(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(start=False)
    berthe = studio.artists.create("Berthe")
    with served(studio) as address, browser(address, "Edgar") as edgar:
        job = paint_one(studio, berthe.id, num_inference_steps=STEPS)
        url = f"{address}/timelines/{job.id}/export"
        assert edgar.get(f"{url}/gif").status_code == 404
        with httpx.Client(cookies={"atelier_artist": studio.artists.cookie(berthe)}, timeout=60) as hers:
            answer = hers.get(f"{url}/gif?fps=5")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "image/gif"
            assert f"atelier-{job.id[:8]}.gif" in answer.headers["content-disposition"]
            for path, sentence in {
                "avi": "can be taken away as webp, gif, mp4, filmstrip, zip, not avi",
                "gif?fps=0": "Frames a second must be from 1 to 60, not 0.",
                "gif?layer=x": "A timeline has the layers latents and denoised, not x.",
            }.items():
                refused = hers.get(f"{url}/{path}")
                assert refused.status_code == 422
                assert sentence in refused.json()["sentence"]
