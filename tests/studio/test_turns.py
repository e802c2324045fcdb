"""Steps are shared among artists by what they cost."""

from __future__ import annotations

from collections import Counter

import pytest

from studio.turns import Turns, Waiting


def steps(waiting: list[Waiting], *, ticks: int, rows_at_once: int) -> Counter[str]:
    turns = Turns()
    taken = Counter[str]()
    for _ in range(ticks):
        chosen = turns.choose(waiting, rows_at_once)
        assert chosen, "there is always progress"
        taken.update(chosen)
    return taken


def test_everybody_steps_where_there_is_room_or_nobody_else() -> None:
    crowd = [Waiting(f"{n}", f"artist {n}", 2) for n in range(16)]
    assert set(steps(crowd, ticks=10, rows_at_once=32).values()) == {10}
    assert set(steps(crowd, ticks=10, rows_at_once=0).values()) == {10}, "alike, each in every round"
    hers = [Waiting(f"{n}", "Berthe", 2 + n) for n in range(3)]
    assert set(steps(hers, ticks=10, rows_at_once=0).values()) == {10}


def test_a_light_picture_beside_a_heavy_one_has_half_of_the_time() -> None:
    taken = steps([Waiting("mix", "Berthe", 7), Waiting("plain", "Edgar", 2)], ticks=700, rows_at_once=0)
    assert taken["plain"] == 700
    assert taken["mix"] * 7 == pytest.approx(taken["plain"] * 2, rel=0.02)


def test_many_pictures_of_one_artist_cost_another_no_more_than_her_share() -> None:
    many = [Waiting(f"{n}", "Berthe", 2) for n in range(16)]
    taken = steps([*many, Waiting("one", "Edgar", 2)], ticks=160, rows_at_once=8)
    assert taken["one"] == 160
    hers = [taken[one.job_id] for one in many]
    assert sum(hers) == 3 * 160, "no room is wasted"
    assert max(hers) - min(hers) <= 1, "and her own come on together"


def test_what_is_watched_steps_before_what_is_asked_for_in_bulk() -> None:
    bulk = [Waiting(f"{n}", "Berthe", 2, bulk=True) for n in range(8)]
    taken = steps(
        [*bulk, Waiting("watched", "Berthe", 2), Waiting("his", "Edgar", 2)], ticks=100, rows_at_once=8
    )
    assert taken["watched"] == taken["his"] == 100
    assert sum(taken[one.job_id] for one in bulk) == 200, "bulk has what is left"


@pytest.mark.parametrize("rows_at_once", [0, 4, 8])
def test_nobody_starves(rows_at_once: int) -> None:
    crowd = [Waiting(f"{n}", f"artist {n}", 1 + n % 7, bulk=n % 3 == 0) for n in range(20)]
    assert len(steps(crowd, ticks=300, rows_at_once=rows_at_once)) == 20
