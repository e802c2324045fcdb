"""Opens the index, and makes it again from the pictures when it is missing or damaged."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from pipelines.recipe import BadInput
from studio.files import DataDir, size_bytes
from studio.gallery import is_id
from studio.index import ArtistRow, ArtworkRow, StudioIndex, is_damage, set_aside, sqlite_url
from studio.provenance import read_png_recipe
from studio.storage import drawn_at
from studio.timelines import is_complete

log = logging.getLogger(__name__)


class ArtistFile(BaseModel):
    """What `artist.json` says."""

    id: str
    name: str
    created: datetime


def open_index(data: DataDir, url: str = "") -> StudioIndex:
    """Open the index.

    A new or missing one is filled from the pictures; a damaged SQLite file is set aside first, as
    `index.sqlite.damaged-<n>`.

    Raises:
        BadInput: a later Atelier wrote it, or it cannot be used for another reason than damage.
    """
    index = StudioIndex(url or sqlite_url(data.index))
    try:
        if index.is_empty():
            fill_index(index, data)
        else:
            index.check()
        return index
    except DatabaseError as error:
        index.close()
        if url or not is_damage(error):
            name, field = ("of database_url", "database_url") if url else (str(data.index), "data_dir")
            raise BadInput(
                f"The index {name} cannot be used: {error.orig}. Put that right and start again.", field
            ) from None
        log.error("The index is damaged (%s). It is set aside as %s.", error.orig, set_aside(data.index))
    except BaseException:
        index.close()
        raise
    index = StudioIndex(sqlite_url(data.index))
    try:
        fill_index(index, data)
    except BaseException:
        index.close()
        raise
    return index


def fill_index(index: StudioIndex, data: DataDir) -> None:
    """Make the tables and list every picture found in the data directory."""
    with index.session.begin() as session:
        index.make_tables(session)
        folders = sorted(folder for folder in data.artworks.iterdir() if folder.is_dir())
        pictures = sum(_fill_artist(session, data, folder) for folder in folders)
    if folders:
        log.warning("The index was rebuilt: %d artists, %d pictures.", len(folders), pictures)


def _fill_artist(session: Session, data: DataDir, folder: Path) -> int:
    """List one artist and her pictures; return how many."""
    file = folder / "artist.json"
    try:
        artist = ArtistFile.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        log.error("%s cannot be read (%s); her pictures are listed without a name.", file, error)
        artist = ArtistFile(id=folder.name, name="unknown", created=_changed(folder))
    session.merge(ArtistRow(id=folder.name, name=artist.name, created=artist.created))
    session.flush()
    pictures = sorted(picture for picture in folder.glob("*.png") if is_id(picture.stem))
    rows = [row for picture in pictures if (row := _read_picture(data, picture)) is not None]
    for row in rows:
        session.merge(row)
    return len(rows)


def _read_picture(data: DataDir, picture: Path) -> ArtworkRow | None:
    try:
        recipe = read_png_recipe(picture)
    except BadInput as error:
        log.error("A picture is not listed. %s", error)
        return None
    artist_id, artwork_id = picture.parent.name, picture.stem
    mark = data.hung_mark(artist_id, artwork_id)
    timeline = data.timeline(artwork_id)
    has_timeline = is_complete(timeline)
    return ArtworkRow(
        id=artwork_id,
        artist_id=artist_id,
        created=_changed(picture),
        recipe=recipe.model_dump_json(),
        key=recipe.key,
        root=recipe.lineage()[0].key,
        hung=_changed(mark) if mark.exists() else None,
        has_timeline=has_timeline,
        pinned=data.pin_mark(artist_id, artwork_id).exists(),
        timeline_bytes=size_bytes(timeline) if has_timeline else 0,
        timeline_drawn=drawn_at(timeline) if has_timeline else None,
    )


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
