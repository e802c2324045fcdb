"""What a bench measured, as a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pipelines.bench import BenchRow


def print_rows(rows: Sequence[BenchRow]) -> None:
    """Print the rows of a bench, and below them what is only known of several artists at once."""
    table = Table("what", "model", "device", "artists", "ours, s", "plain diffusers, s", "ratio")
    for row in rows:
        times = f"{row.ours_s:.4f}", f"{row.plain_s:.4f}", f"{row.ratio:.4f}"
        table.add_row(row.name, row.model, row.device, str(row.artists), *times)
    console = Console()
    console.print(table)
    for row in rows:
        if row.tick_s is not None:
            console.print(f"{row.model}, {row.name}, {row.artists}: {_in_words(row)}", soft_wrap=True)


def _in_words(row: BenchRow) -> str:
    said = [
        f"{60 / row.ours_s:.1f} pictures a minute, in line {60 / row.plain_s:.1f}",
        f"where {row.plain_rounds} took {row.plain_least_s:.3f} to {row.plain_most_s:.3f} s",
    ]
    if row.tick_s is not None:
        said.append(f"a tick takes {1000 * row.tick_s:.1f} ms")
    if row.first_preview_s is not None:
        said.append(f"all have a first preview after {row.first_preview_s:.3f} s")
    if row.joiner_preview_s is not None:
        said.append(
            f"one who joins the others after {row.joiner_preview_s:.3f} s, in tick {row.joiner_ticks}"
        )
    if row.peak_bytes is not None:
        said.append(f"{row.peak_bytes / 1e9:.2f} GB at most")
    if row.compile_s is not None:
        said.append(f"compiled in {row.compile_s:.0f} s before")
    return ", ".join(said) + "."
