"""The gallery: every kept picture, an artist's own and the shared wall."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL.Image import Image
from sqlalchemy import Select, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from pipelines.picture_files import Picture, read_picture
from pipelines.recipe import BadInput, Recipe, read_recipe
from studio.files import DataDir, remove_folder, write_file
from studio.index import ArtistRow, ArtworkRow, JobRow, StudioIndex, now
from studio.provenance import read_png_calls, save_png
from studio.sentences import refusing_when_full


class NotHers(LookupError):
    """There is no such thing, or it belongs to somebody else: the two are not told apart."""

    def __init__(self, what: str = "picture") -> None:
        super().__init__(f"There is no such {what} among yours or on the wall.")


@dataclass(frozen=True, slots=True)
class Artwork:
    """A kept picture. `created` is in UTC."""

    id: str
    artist_id: str
    artist_name: str
    created: datetime
    recipe: Recipe
    hung: bool
    has_timeline: bool
    pinned: bool


class Gallery:
    """The pictures of one studio."""

    def __init__(self, index: StudioIndex, data: DataDir) -> None:
        self._index = index
        self._data = data

    def own(self, artist_id: str, *, limit: int, before: str | None = None) -> list[Artwork]:
        """List an artist's pictures, newest first; `before` is the id of the last one already shown."""
        query = _artworks().where(ArtworkRow.artist_id == artist_id)
        return self._list(query, ArtworkRow.created, limit, before)

    def wall(self, *, limit: int, before: str | None = None) -> list[Artwork]:
        """List what hangs on the wall, last hung first; `before` is the id of the last one already shown."""
        return self._list(_artworks().where(ArtworkRow.hung.is_not(None)), ArtworkRow.hung, limit, before)

    def _list(
        self,
        query: Select[ArtworkRow, str],
        moment: InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None],
        limit: int,
        before: str | None,
    ) -> list[Artwork]:
        if before is not None:
            last = select(moment, ArtworkRow.id).where(ArtworkRow.id == before).subquery()
            query = query.where(tuple_(moment, ArtworkRow.id) < select(last).scalar_subquery())
        query = query.order_by(moment.desc(), ArtworkRow.id.desc()).limit(limit)
        with self._index.session() as session:
            return [_artwork(row, name) for row, name in session.execute(query)]

    def get(self, artwork_id: str, artist_id: str) -> Artwork:
        """Find a picture that an artist may see: her own, or one that hangs on the wall.

        Raises:
            NotHers: there is none.
        """
        with self._index.session() as session:
            found = session.execute(_artworks().where(ArtworkRow.id == artwork_id)).one_or_none()
        if found is None or (found[0].artist_id != artist_id and found[0].hung is None):
            raise NotHers
        return _artwork(found[0], found[1])

    def file(self, artwork_id: str, artist_id: str) -> Path:
        """Find the PNG of a picture that an artist may see.

        Raises:
            NotHers: there is none, or its file is gone.
        """
        artwork = self.get(artwork_id, artist_id)
        path = self._data.picture(artwork.artist_id, artwork.id)
        if not path.is_file():
            raise NotHers
        return path

    def family(self, artwork_id: str, artist_id: str) -> list[Artwork]:
        """List a picture's ancestors, siblings and descendants that an artist may see, oldest first.

        Raises:
            NotHers: the picture is not for her to see.
        """
        root = self.get(artwork_id, artist_id).recipe.lineage()[0].key
        visible = or_(ArtworkRow.artist_id == artist_id, ArtworkRow.hung.is_not(None))
        query = _artworks().where(ArtworkRow.root == root, visible)
        with self._index.session() as session:
            found = session.execute(query.order_by(ArtworkRow.created, ArtworkRow.id))
            return [_artwork(row, name) for row, name in found]

    def companions(self, artwork_id: str, artist_id: str) -> list[Artwork]:
        """List the pictures asked for together with this one that an artist may see, itself among them.

        Raises:
            NotHers: the picture is not for her to see.
        """
        picture = self.get(artwork_id, artist_id)
        group = select(JobRow.group_id).where(JobRow.id == artwork_id).scalar_subquery()
        visible = or_(ArtworkRow.artist_id == artist_id, ArtworkRow.hung.is_not(None))
        query = _artworks().join(JobRow, JobRow.id == ArtworkRow.id).where(JobRow.group_id == group, visible)
        with self._index.session() as session:
            found = session.execute(query.order_by(JobRow.position))
            # A rebuilt index has forgotten who was asked for with whom.
            return [_artwork(row, name) for row, name in found] or [picture]

    def painted(self, recipe: Recipe) -> list[str]:
        """List the ids of the pictures, whoever's, that this very recipe painted."""
        query = select(ArtworkRow.id).where(ArtworkRow.key == recipe.key)
        with self._index.session() as session:
            return list(session.scalars(query))

    def painted_for(self, recipe: Recipe, artist_id: str) -> Artwork | None:
        """Find a picture of an artist's own that this very recipe painted."""
        query = _artworks().where(ArtworkRow.key == recipe.key, ArtworkRow.artist_id == artist_id)
        with self._index.session() as session:
            found = session.execute(query.order_by(ArtworkRow.created.desc())).first()
            return None if found is None else _artwork(found[0], found[1])

    def hang(self, artwork_id: str, artist_id: str, hung: bool) -> Artwork:
        """Hang one of her own pictures on the wall, or take it down.

        Raises:
            NotHers: it is not hers.
            BadInput: the disk is full.
        """
        mark = self._data.hung_mark(artist_id, artwork_id)
        with refusing_when_full(), self._index.session.begin() as session:
            row = own_row(session, artwork_id, artist_id)
            if hung and row.hung is None:
                row.hung = now()
                write_file(mark, b"")
            elif not hung:
                row.hung = None
                mark.unlink(missing_ok=True)
        return self.get(artwork_id, artist_id)

    def delete(self, artwork_id: str, artist_id: str) -> None:
        """Delete one of her own pictures, with its timeline.

        Raises:
            NotHers: it is not hers.
        """
        with self._index.session.begin() as session:
            session.delete(own_row(session, artwork_id, artist_id))
            # Before the commit: a picture that is still there must not vanish from the list.
            self._data.picture(artist_id, artwork_id).unlink(missing_ok=True)
            self._data.hung_mark(artist_id, artwork_id).unlink(missing_ok=True)
            self._data.pin_mark(artist_id, artwork_id).unlink(missing_ok=True)
            remove_folder(self._data.timeline(artwork_id))

    def keep(
        self, artwork_id: str, artist_id: str, recipe: Recipe, picture: Image | Picture, calls: str = ""
    ) -> None:
        """Save a painted picture and list it; the job of the same id has ended with it.

        Raises:
            OSError: the disk is full and the like; nothing is kept then.
            sqlalchemy.exc.DatabaseError: it cannot be listed; nothing is kept then.
        """
        path = self._data.picture(artist_id, artwork_id)
        save_png(path, picture, recipe, calls)
        try:
            with self._index.session.begin() as session:
                row = ArtworkRow(id=artwork_id, artist_id=artist_id, created=now(), has_timeline=False)
                row.recipe = recipe.model_dump_json()
                row.key, row.root = recipe.key, recipe.lineage()[0].key
                session.merge(row)
                job = session.scalar(select(JobRow).where(JobRow.id == artwork_id))
                if job is not None:
                    job.state = "done"
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def shows(self, artwork_id: str, picture: Picture) -> bool:
        """Tell whether a kept picture has exactly these pixels; yes when there is none to differ from."""
        with self._index.session() as session:
            row = session.get(ArtworkRow, artwork_id)
        if row is None:
            return True
        try:
            kept = read_picture(self._data.picture(row.artist_id, artwork_id).read_bytes())
        except (OSError, BadInput):
            return True
        return np.array_equal(kept.pixels, picture.pixels)

    def calls(self, artwork_id: str) -> str:
        """Tell by which calls a kept picture was painted (`infotext`); nothing where that is not known."""
        with self._index.session() as session:
            row = session.get(ArtworkRow, artwork_id)
        try:
            return read_png_calls(self._data.picture(row.artist_id, artwork_id)) if row is not None else ""
        except BadInput:
            return ""

    def without_timeline(self, model_revision: str) -> list[str]:
        """List the ids of a model's pictures whose timeline was not finished, oldest first."""
        query = _artworks().where(ArtworkRow.has_timeline.is_(False)).order_by(ArtworkRow.created)
        with self._index.session() as session:
            artworks = [_artwork(row, name) for row, name in session.execute(query)]
        return [artwork.id for artwork in artworks if artwork.recipe.model_revision == model_revision]

    def has(self, artwork_id: str) -> bool:
        """Tell whether a picture is listed."""
        with self._index.session() as session:
            return session.get(ArtworkRow, artwork_id) is not None


def _artworks() -> Select[ArtworkRow, str]:
    return select(ArtworkRow, ArtistRow.name).join(ArtistRow, ArtistRow.id == ArtworkRow.artist_id)


def _artwork(row: ArtworkRow, artist_name: str) -> Artwork:
    return Artwork(
        id=row.id,
        artist_id=row.artist_id,
        artist_name=artist_name,
        created=row.created,
        recipe=read_recipe(row.recipe),
        hung=row.hung is not None,
        has_timeline=row.has_timeline,
        pinned=row.pinned,
    )


def own_row(session: Session, artwork_id: str, artist_id: str) -> ArtworkRow:
    """Find one of an artist's own pictures.

    Raises:
        NotHers: it is not hers.
    """
    row = session.get(ArtworkRow, artwork_id)
    if row is None or row.artist_id != artist_id:
        raise NotHers
    return row


def is_id(text: str) -> bool:
    """Tell whether a text is an id of this studio (32 hex digits), so that it may name a file."""
    try:
        return uuid.UUID(hex=text).hex == text
    except ValueError:
        return False
