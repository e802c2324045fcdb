"""Pictures that artists brought: kept once by their content, with a mark for each who brought it."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from sqlalchemy import select

from pipelines.picture_files import read_picture
from pipelines.recipe import BadInput, Recipe
from pipelines.sources import source_key
from studio.files import DataDir, write_file
from studio.gallery import Gallery, NotHers
from studio.index import ArtworkRow, JobRow, StudioIndex
from studio.sentences import refusing_when_full

# A picture that nothing was painted from may still lie on somebody's desk.
_UNUSED_S = 30 * 24 * 3600
_VIEW_PX = 1600
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class KeptSource:
    """A source by its SHA-256 (64 hex digits), with its upright size in pixels."""

    key: str
    width: int
    height: int


class Sources:
    """The sources of one studio.

    A file lies under its SHA-256, beside it an empty mark for each artist who brought that very file. Only
    she may look at it or paint from it: to know a hash, which every recipe on the wall tells, is not enough.
    """

    def __init__(
        self, index: StudioIndex, data: DataDir, gallery: Gallery, *, max_bytes: int, max_pixels: int
    ) -> None:
        self._index = index
        self._data = data
        self._gallery = gallery
        self.max_bytes = max_bytes
        self.max_pixels = max_pixels

    def keep(self, artist_id: str, content: bytes) -> KeptSource:
        """Keep a picture that an artist brought; the same file again is kept once.

        Raises:
            BadInput: not a picture, damaged, too large, or the disk is full.
        """
        if len(content) > self.max_bytes:
            raise BadInput(
                f"This file has {len(content) / 1e6:.0f} MB; {self.max_bytes / 1e6:.0f} MB is the most.",
                "image",
            )
        image = read_picture(content, max_pixels=self.max_pixels)
        key = source_key(content)
        with refusing_when_full():
            if not self._data.source(key).exists():
                write_file(self._data.source(key), content)
            write_file(self._data.source_mark(key, artist_id), b"")
        return KeptSource(key, *image.size)

    def keep_artwork(self, artist_id: str, artwork_id: str) -> KeptSource:
        """Take a picture that an artist may see, one of hers or one on the wall, as a source.

        Raises:
            NotHers: there is no such picture for her.
            BadInput: the disk is full.
        """
        return self.keep(artist_id, self._gallery.file(artwork_id, artist_id).read_bytes())

    def open(self, key: str) -> bytes:
        """Read a source, as the pipelines ask for it.

        Raises:
            BadInput: it is gone.
        """
        try:
            return self._data.source(key).read_bytes()
        except OSError:
            raise BadInput(
                "The picture that this one begins from is no longer here. Bring it once more.", "image"
            ) from None

    def file(self, key: str, artist_id: str) -> Path:
        """Find the file of a source that an artist brought.

        Raises:
            NotHers: she did not, or it is gone.
        """
        if not (_KEY.fullmatch(key) and self._data.source_mark(key, artist_id).exists()):
            raise NotHers
        return self._data.source(key)

    def view(self, key: str, artist_id: str) -> bytes:
        """Show a source that an artist brought, small enough to paint a mask over it: as WebP.

        Raises:
            NotHers: she did not, or it is gone.
        """
        image = read_picture(self.file(key, artist_id).read_bytes(), max_pixels=self.max_pixels).rgb()
        image.thumbnail((_VIEW_PX, _VIEW_PX), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        image.save(stream, "WEBP", quality=92, method=1)
        return stream.getvalue()

    def check(self, recipe: Recipe, artist_id: str) -> None:
        """Refuse a recipe that begins from, or follows, a picture which the artist did not bring herself.

        Raises:
            BadInput: saying so.
        """
        try:
            for key in recipe.files:
                self.file(key, artist_id)
        except NotHers:
            raise BadInput(
                "This picture begins from one, or follows one, that is not among yours: bring it yourself.",
                "image",
            ) from None

    def sweep(self) -> None:
        """Remove what no artwork and no job needs and nobody brought lately."""
        needed = set(self._needed())
        limit = time.time() - _UNUSED_S
        for file in [file for file in self._data.sources.iterdir() if _KEY.fullmatch(file.name)]:
            marks = list(self._data.sources.glob(f"{file.name}.*"))
            if file.name not in needed and all(path.stat().st_mtime < limit for path in (file, *marks)):
                for path in (*marks, file):
                    path.unlink(missing_ok=True)

    def _needed(self) -> Iterator[str]:
        """List every hash that a kept or waiting recipe or a preset names, sources among them."""
        for preset in self._data.all_presets():
            yield from _KEY.findall(preset.read_text(encoding="utf-8"))
        waiting = select(JobRow.recipe).where(JobRow.state == "queued")
        with self._index.session() as session:
            for query in (select(ArtworkRow.recipe), waiting):
                for recipe in session.scalars(query):
                    yield from _KEY.findall(recipe)
