"""Whose pictures take their next step, where not all can at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A picture whose next step is due: what it costs in rows, and whether it is one of many asked for."""

    job_id: str
    artist_id: str
    rows: int
    bulk: bool = False


class Turns:
    """Shares out the rows of the network among artists, as deficit round robin does among flows.

    Each artist is credited alike and pays for the rows of her steps (Shreedhar and Varghese 1996), so that a
    light picture beside a heavy one waits for no more than its artist's own share. Of one artist's pictures
    those in bulk come last, then those that had the most steps already.
    """

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}
        self._taken = Counter[str]()

    def choose(self, waiting: Sequence[Waiting], rows_at_once: int) -> set[str]:
        """Choose the pictures that step now; at least one of those that wait.

        Args:
            waiting: all that could, oldest first.
            rows_at_once: what an accelerator answers in one call; 0 on a CPU, where every row takes its time.
        """
        artists = list(dict.fromkeys(one.artist_id for one in waiting))
        rows = sum(one.rows for one in waiting)
        self._taken = Counter({one.job_id: self._taken[one.job_id] for one in waiting})
        if rows <= rows_at_once or (len(artists) <= 1 and not rows_at_once):
            self._credit.clear()
            chosen = list(waiting)
        else:
            chosen = self._share(waiting, artists, rows_at_once)
        self._taken.update(one.job_id for one in chosen)
        return {one.job_id for one in chosen}

    def _share(self, waiting: Sequence[Waiting], artists: list[str], rows_at_once: int) -> list[Waiting]:
        in_order = sorted(waiting, key=lambda one: (one.bulk, self._taken[one.job_id]))
        dearest: defaultdict[str, int] = defaultdict(int)
        for one in waiting:
            dearest[one.artist_id] = max(dearest[one.artist_id], one.rows)
        # On a CPU whoever asks for the least steps every time, and the others as often as they can pay.
        share = rows_at_once / len(artists) if rows_at_once else min(one.rows for one in waiting)
        self._credit = {
            artist: min(self._credit.get(artist, 0.0), dearest[artist]) + share for artist in artists
        }
        left = rows_at_once or sum(one.rows for one in waiting)
        chosen: list[Waiting] = []
        for one in in_order:
            # The last may be too large for what is left: it then takes a call more.
            if left > 0 and one.rows <= self._credit[one.artist_id]:
                self._credit[one.artist_id] -= one.rows
                left -= one.rows
                chosen.append(one)
        if rows_at_once:
            # Room that nobody could pay for would be wasted: it is given, and paid for later.
            for one in in_order:
                if one not in chosen and (one.rows <= left or not chosen):
                    self._credit[one.artist_id] -= one.rows
                    left -= one.rows
                    chosen.append(one)
        return chosen
