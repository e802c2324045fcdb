from __future__ import annotations

import stat
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.recipe import BadInput
from studio.artists import COOKIE, MAX_NAME_CHARACTERS, check_name
from studio.studio import Studio

OpenStudio = Callable[..., Studio]


@pytest.mark.parametrize("name", ["Berthe Morisot", "  Bồ Tùng Linh ", "李可染", "🎨", "O'Keeffe", "x" * 40])
def test_names_of_all_alphabets_are_welcome(name: str) -> None:
    assert check_name(name) == name.strip()


@pytest.mark.parametrize(
    "name", ["", "   ", "x" * 41, "two\nlines", "bell\a", "\u202egnorw", "\u200b", "\u2028", "nul\0", "\x7f"]
)
def test_names_that_cannot_be_shown_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="name"):
        check_name(name)


@given(st.text(max_size=60))
def test_a_name_is_refused_or_fits_one_line(name: str) -> None:
    try:
        kept = check_name(name)
    except BadInput:
        return
    assert 1 <= len(kept) <= MAX_NAME_CHARACTERS
    assert len(kept.splitlines()) == 1


def test_an_identity_is_kept_over_a_restart(open_studio: OpenStudio) -> None:
    studio = open_studio(start=False)
    berthe = studio.artists.create(" Berthe ")
    cookies = {COOKIE: studio.artists.cookie(berthe)}
    studio.close()
    again = open_studio(start=False)
    assert again.artists.from_cookies(cookies) == berthe
    assert berthe.name == "Berthe"


def test_a_forged_identity_is_nobody(open_studio: OpenStudio) -> None:
    artists = open_studio(start=False).artists
    berthe, edgar = artists.create("Berthe"), artists.create("Edgar")
    signature = artists.cookie(edgar).rpartition(".")[2]
    payload = artists.cookie(berthe).rpartition(".")[0]
    for forged in ("", "x", berthe.id, f"{payload}.{signature}", f"{payload}.", artists.cookie(berthe) + "x"):
        assert artists.from_cookies({COOKIE: forged}) is None
    assert artists.from_cookies({}) is None


def test_renaming_keeps_the_identity(open_studio: OpenStudio) -> None:
    artists = open_studio(start=False).artists
    berthe = artists.create("Berthe")
    assert artists.rename(berthe.id, "Berthe Morisot").id == berthe.id
    assert artists.get(berthe.id) == artists.from_cookies({COOKIE: artists.cookie(berthe)})


def test_guests_share_one_artist(open_studio: OpenStudio) -> None:
    artists = open_studio(start=False).artists
    assert artists.guest() == artists.guest()


def test_only_the_studio_reads_its_secret(open_studio: OpenStudio) -> None:
    studio = open_studio(start=False)
    secret = studio.settings.data_dir / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secret.read_bytes()) == 64
