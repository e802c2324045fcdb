"""The data pack, read once and laid out as arrays that a GPU can hold whole.

Every picture is arranged several times in one of three formats: resized with as little cropping as its
shape allows, or, where it has no scene of its own (emoji, fruit), placed on a ground. Each arrangement
carries its own captions. The result is one `.npy` of pixels and one JSON of rows for each format.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.training.arrangement import arrange
from pipelines.training.captions import Facts, common_words, compose_caption, telling_words

VALIDATION_PERCENT = 4
RENDERED = "3d render"
STYLE_SHARES = {
    "baroque": 0.14,
    "romanticism": 0.14,
    "impressionism": 0.14,
    "post-impressionism": 0.12,
    "symbolism": 0.11,
    "art nouveau": 0.11,
    "ukiyo-e": 0.06,
    "botanical watercolour": 0.05,
    RENDERED: 0.13,
}
"""How often a style is drawn, its pictures by their artists' weight; a style not named here shares the rest.

Nearer to equal than the pack, whose baroque would be a fifth of everything: each style is asked for alike.
"""

_OTHERS = "other styles"

ARTIST_BALANCE = 0.25
"""A picture's weight falls with this power of the number of pictures its artist has."""

ARRANGEMENTS = {"painting": 4, "ukiyo-e": 10, "pomology": 6, "emoji-3d": 10}
"""How many ways each picture is arranged, by source; mirroring doubles it."""

CAPTIONS_PER_ROW = 10

SEEN_FILE = Path(__file__).with_name("seen.tsv")
"""What `train see` saw in the pack's training paintings."""

_LAYOUT = 8
"""Counts the changes to what `prepare_pack` writes; a folder of an older layout is made again."""


@dataclass(frozen=True)
class Format:
    """A bucket of pictures of one size in pixels; both sides are multiples of eight."""

    width: int
    height: int

    @property
    def name(self) -> str:
        """Width by height, as in the file names."""
        return f"{self.width}x{self.height}"


FORMATS = (Format(224, 160), Format(160, 224), Format(192, 192))


@dataclass(frozen=True)
class Entry:
    """One picture of the pack, still encoded, and the words that a seer saw in it."""

    key: str
    image: bytes
    fields: dict[str, object]
    seen: tuple[str, ...] = ()

    @property
    def facts(self) -> Facts:
        """What captions may tell of it."""
        return Facts.from_json(self.fields, self.seen)


@dataclass(frozen=True)
class Row:
    """One arrangement of one picture, as it is trained on; `words` are those that tell what it shows."""

    key: str
    source: str
    style: str
    genre: str
    artist: str
    validation: bool
    weight: float
    captions: list[str]
    words: list[str] = field(default_factory=list[str])


def is_validation(key: str) -> bool:
    """Hold out a fixed share of the pictures by the hash of their key; these are never trained on."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 100 < VALIDATION_PERCENT


def read_shards(data: Path, limit: int | None = None) -> list[Entry]:
    """Read every picture of the tar shards in `data`, in the order of their keys.

    Raises FileNotFoundError where the folder holds no shard, and ValueError on a picture without its JSON.
    """
    shards = sorted(data.glob("*.tar*"))
    if not shards:
        raise FileNotFoundError(f"no .tar shard in {data}: --data is the folder of the data pack")
    images: dict[str, bytes] = {}
    fields: dict[str, dict[str, object]] = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is None:
                    continue
                key, _, suffix = member.name.rpartition(".")
                if suffix == "json":
                    fields[key] = json.loads(content.read())
                else:
                    images[key] = content.read()
    if missing := sorted(images.keys() ^ fields.keys()):
        raise ValueError(f"{missing[0]} in {data} lacks its picture or its JSON")
    seen = read_seen()
    return [
        Entry(key, images[key], fields[key], seen.get(picture_hash(images[key]), ()))
        for key in sorted(images)[:limit]
    ]


def read_seen(path: Path = SEEN_FILE) -> dict[str, tuple[str, ...]]:
    """The words that a seer saw in pictures, by the hash of each picture's file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split("\t")[0]: tuple(line.split("\t")[1].split(", ")) for line in lines if line}


def picture_hash(image: bytes) -> str:
    """What a picture's file is known by in the list of seen words."""
    return hashlib.sha256(image).hexdigest()[:12]


def choose_format(width: int, height: int, rng: random.Random | None = None) -> Format:
    """The format that crops least of a picture of this size; `rng` now and then takes the neighbour's."""
    log_aspect = math.log(width / height) + (rng.gauss(0.0, 0.06) if rng else 0.0)
    return min(FORMATS, key=lambda shape: abs(log_aspect - math.log(shape.width / shape.height)))


def plan_rows(entry: Entry) -> list[tuple[Format, int]]:
    """The format and seed of each arrangement of a picture; a held-out picture has only one."""
    rng = random.Random(entry.key)
    source = str(entry.fields["source"])
    if is_validation(entry.key):
        return [(choose_format(_px(entry, "width"), _px(entry, "height")), rng.getrandbits(32))]
    count = ARRANGEMENTS.get(source, 2)
    if source in ("emoji-3d", "pomology"):
        shapes = [FORMATS[index % len(FORMATS)] for index in range(count)]
    else:
        size = _px(entry, "width"), _px(entry, "height")
        shapes = [choose_format(*size, rng) for _ in range(count)]
    return [(shape, rng.getrandbits(32)) for shape in shapes]


def arrange_entry(
    entry: Entry, *, common: frozenset[str]
) -> list[tuple[Format, np.ndarray[Any, np.dtype[np.uint8]], list[str]]]:
    """Arrange one picture in each of its planned formats: pixels (height, width, 3) and captions."""
    facts = entry.facts
    image = Image.open(io.BytesIO(entry.image))
    image.load()
    rows: list[tuple[Format, np.ndarray[Any, np.dtype[np.uint8]], list[str]]] = []
    for shape, seed in plan_rows(entry):
        rng = random.Random(seed)
        arranged, background = arrange(
            image,
            source=facts.source,
            width=shape.width,
            height=shape.height,
            rng=rng,
            still=is_validation(entry.key),
        )
        captions = [compose_caption(facts, common, rng, background) for _ in range(CAPTIONS_PER_ROW)]
        rows.append((shape, np.asarray(arranged, dtype=np.uint8), captions))
    return rows


def picture_weights(entries: Iterable[Entry]) -> dict[str, float]:
    """How often each training picture is drawn, summing to one: balanced over styles and artists."""
    training = [entry for entry in entries if not is_validation(entry.key)]
    artists = Counter(str(entry.fields.get("artist", "")) for entry in training)
    raw = {entry.key: artists[str(entry.fields.get("artist", ""))] ** -ARTIST_BALANCE for entry in training}
    styles = {entry.key: str(entry.fields["style"]) for entry in training}
    present = {style: share for style, share in STYLE_SHARES.items() if style in styles.values()}
    shares = {**present, _OTHERS: 1.0 - sum(present.values())}
    groups = {key: style if style in present else _OTHERS for key, style in styles.items()}
    totals = dict.fromkeys(shares, 0.0)
    for key, weight in raw.items():
        totals[groups[key]] += weight
    weights = {key: shares[groups[key]] * weight / totals[groups[key]] for key, weight in raw.items()}
    total = sum(weights.values())
    return {key: weight / total for key, weight in weights.items()}


def prepare_pack(data: Path, output: Path, *, workers: int = 1, limit: int | None = None) -> None:
    """Lay the whole pack out under `output`: `pixels-WxH.npy` (N, H, W, 3) uint8 and `rows-WxH.json`.

    Does nothing when an earlier call has finished. `limit` keeps only the first pictures (for tests).
    """
    done = output / "prepared.json"
    if done.exists() and json.loads(done.read_text()).get("layout") == _LAYOUT:
        return
    output.mkdir(parents=True, exist_ok=True)
    entries = read_shards(data, limit)
    facts = [entry.facts for entry in entries]
    common = common_words(
        one.title for entry, one in zip(entries, facts, strict=True) if not is_validation(entry.key)
    )
    weights = picture_weights(entries)
    plans = [plan_rows(entry) for entry in entries]
    counts = Counter(shape for plan in plans for shape, _ in plan)
    pixels = {
        shape: np.lib.format.open_memmap(
            output / f"pixels-{shape.name}.npy",
            mode="w+",
            dtype=np.uint8,
            shape=(counts[shape], shape.height, shape.width, 3),
        )
        for shape in FORMATS
        if counts[shape]
    }
    rows: dict[Format, list[Row]] = {shape: [] for shape in pixels}
    arranged = _map(partial(arrange_entry, common=common), entries, workers)
    for entry, one, plan, variants in zip(entries, facts, plans, arranged, strict=True):
        words = telling_words(one, common)
        for shape, picture, captions in variants:
            pixels[shape][len(rows[shape])] = picture
            rows[shape].append(
                Row(
                    key=entry.key,
                    source=one.source,
                    style=one.style,
                    genre=one.genre,
                    artist=one.artist,
                    validation=is_validation(entry.key),
                    weight=weights.get(entry.key, 0.0) / len(plan),
                    captions=captions,
                    words=words,
                )
            )
    for shape, shape_rows in rows.items():
        pixels[shape].flush()
        save_rows(output, shape, shape_rows)
    told = {"layout": _LAYOUT, "pictures": len(entries), "rows": {s.name: counts[s] for s in pixels}}
    done.write_text(json.dumps(told))


def save_rows(prepared: Path, shape: Format, rows: Sequence[Row]) -> None:
    """Write one format's rows as `load_rows` reads them."""
    (prepared / f"rows-{shape.name}.json").write_text(json.dumps([vars(row) for row in rows]))


def load_rows(prepared: Path) -> dict[Format, list[Row]]:
    """Read the rows that `prepare_pack` wrote, format by format."""
    return {
        shape: [Row(**fields) for fields in json.loads(path.read_text())]
        for shape in FORMATS
        if (path := prepared / f"rows-{shape.name}.json").exists()
    }


def load_pixels(prepared: Path, shape: Format) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Open one format's pictures, (N, height, width, 3) uint8, without reading them into memory."""
    return np.load(prepared / f"pixels-{shape.name}.npy", mmap_mode="r")


def _map(work: Any, entries: list[Entry], workers: int) -> Iterator[Any]:
    if workers <= 1:
        yield from map(work, entries)
        return
    # Spawned rather than forked: the parent may already hold a CUDA context and NCCL's threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, entries, chunksize=16)


def _px(entry: Entry, name: str) -> int:
    return int(str(entry.fields[name]))
