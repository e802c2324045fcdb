"""The index: what is kept, as tables, so that it can be listed quickly. The PNGs are the truth behind it."""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import (
    DDL,
    BigInteger,
    DateTime,
    Engine,
    ForeignKey,
    Index,
    create_engine,
    event,
    false,
    inspect,
)
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.schema import CreateColumn
from sqlalchemy.types import TypeDecorator

from pipelines.recipe import BadInput

log = logging.getLogger(__name__)

SCHEMA_VERSION = "1"
_BUSY_TIMEOUT_MS = 10_000
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment that keeps its time zone; SQLite forgets it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give a moment that SQLite returned its time zone back."""
        del dialect
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """The tables of the index."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime}


class ArtistRow(Base):
    """Somebody who paints here."""

    __tablename__ = "artists"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created: Mapped[datetime]


class ArtworkRow(Base):
    """A kept picture; `hung` is the moment it was hung on the wall, if it is.

    `key` is its recipe's, `root` that of the first ancestor it branched from: its own when it did not.
    `pinned` says that its timeline is never dropped; `timeline_bytes` is what that takes on the disk and
    `timeline_drawn` when it was finished, None while there is none.
    """

    __tablename__ = "artworks"

    id: Mapped[str] = mapped_column(primary_key=True)
    artist_id: Mapped[str] = mapped_column(ForeignKey("artists.id"))
    created: Mapped[datetime]
    recipe: Mapped[str]
    key: Mapped[str] = mapped_column(index=True)
    root: Mapped[str] = mapped_column(index=True)
    hung: Mapped[datetime | None] = mapped_column(index=True)
    has_timeline: Mapped[bool] = mapped_column(default=False)
    pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    timeline_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    timeline_drawn: Mapped[datetime | None]

    __table_args__ = (Index("artworks_of_artist", "artist_id", "created"),)


class JobRow(Base):
    """A job as it survives a restart: `state` is "queued" until it has ended, also while it is painted.

    `number` is the order in which jobs came; `repaints` the picture whose timeline it paints again, if it is
    such a job.
    """

    __tablename__ = "jobs"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    group_id: Mapped[str] = mapped_column(index=True)
    position: Mapped[int]
    artist_id: Mapped[str] = mapped_column(ForeignKey("artists.id"))
    state: Mapped[str] = mapped_column(index=True)
    created: Mapped[datetime]
    recipe: Mapped[str]
    sentence: Mapped[str] = mapped_column(default="")
    repaints: Mapped[str | None]


class MetaRow(Base):
    """A fact about the index itself: its schema version."""

    __tablename__ = "meta"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class StudioIndex:
    """The open index; `session()` begins a short unit of work."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self.session: sessionmaker[Session] = sessionmaker(self._engine, expire_on_commit=False)

    def is_empty(self) -> bool:
        """Tell whether the tables are still to be made."""
        return not inspect(self._engine).has_table(MetaRow.__tablename__)

    def check(self) -> None:
        """Prove that the index can be read and is of this schema.

        Raises:
            DatabaseError: it is damaged.
            BadInput: a later Atelier wrote it.
        """
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                verdict = str(connection.exec_driver_sql("PRAGMA quick_check").scalar())
                if verdict != "ok":
                    damage = sqlite3.DatabaseError(verdict)
                    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                    raise DatabaseError("PRAGMA quick_check", None, damage)
        with self.session() as session:
            meta = session.get(MetaRow, "schema_version")
            if meta is not None and meta.value != SCHEMA_VERSION:
                raise BadInput(
                    f"The index was written by another Atelier (schema {meta.value}); this one reads schema "
                    f"{SCHEMA_VERSION}. Use the Atelier that wrote it, or move the index away to have it "
                    "rebuilt from the pictures.",
                    "data_dir",
                )
            self._add_new_columns(session)
            session.commit()
            for table in (ArtistRow, ArtworkRow, JobRow):
                session.query(table).first()

    def _add_new_columns(self, session: Session) -> None:
        """Take over an index that an earlier Atelier of this schema wrote: new columns have a default."""
        connection = session.connection()
        inspector, dialect = inspect(connection), self._engine.dialect
        for table in Base.metadata.sorted_tables:
            known = {column["name"] for column in inspector.get_columns(table.name)}
            for column in table.columns:
                if column.name not in known:
                    definition = CreateColumn(column).compile(dialect=dialect)
                    connection.execute(DDL(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))

    def make_tables(self, session: Session) -> None:
        """Make the tables as part of a session, so that a rebuild is whole or not there."""
        Base.metadata.create_all(session.connection())
        session.merge(MetaRow(name="schema_version", value=SCHEMA_VERSION))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _engine(url: str) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    del record
    # WAL: readers never wait for a writer. NORMAL: a power cut may forget the last rows, never damage the
    # file; a forgotten "done" is only painted again.
    pragmas = {
        "journal_mode": "WAL",
        "synchronous": "NORMAL",
        "foreign_keys": "ON",
        "busy_timeout": _BUSY_TIMEOUT_MS,
    }
    for pragma, value in pragmas.items():
        connection.execute(f"PRAGMA {pragma}={value}").close()


def sqlite_url(path: Path) -> str:
    """The SQLAlchemy URL of an SQLite file."""
    return make_url("sqlite://").set(database=str(path)).render_as_string(hide_password=False)


def is_damage(error: DatabaseError) -> bool:
    """Tell a damaged SQLite file, or one without its tables, from one that is busy or has no room."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in _DAMAGE  # the rest of a code only says more


def set_aside(path: Path) -> Path:
    """Move a damaged SQLite file out of the way, with what belongs to it; it is never deleted.

    Returns:
        Where it is now: `index.sqlite.damaged-1` and on.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    if path.exists():
        path.rename(aside)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    return aside


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)
