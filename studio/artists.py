"""Artists: a name, and a signed identity that the browser keeps."""

from __future__ import annotations

import json
import secrets
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from itsdangerous import BadSignature, URLSafeSerializer

from pipelines.recipe import BadInput
from studio.files import DataDir, write_file
from studio.index import ArtistRow, StudioIndex, now
from studio.sentences import refusing_when_full

COOKIE = "atelier_artist"
COOKIE_AGE_S = 10 * 365 * 24 * 3600
MAX_NAME_CHARACTERS = 40
GUEST_ID = "guest"

_SECRET_BYTES = 32
# Characters that would break out of the place a name is shown in: controls, lone surrogates, line ends, and
# those that turn the direction of the text around them.
_REFUSED_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_VISIBLE_KINDS = "LNPS"


@dataclass(frozen=True, slots=True)
class Artist:
    """Somebody who paints here."""

    id: str
    name: str


class Artists:
    """The artists of one studio."""

    def __init__(self, index: StudioIndex, data: DataDir) -> None:
        self._index = index
        self._data = data
        self._signer = URLSafeSerializer(_read_secret(data), salt="atelier artist")

    def from_cookies(self, cookies: Mapping[str, str]) -> Artist | None:
        """Tell who a browser is by its cookies; None when it was not asked yet or its cookie is forged."""
        signed = cookies.get(COOKIE)
        if signed is None:
            return None
        try:
            artist_id: object = self._signer.loads(signed)
        except BadSignature:
            return None
        return self.get(artist_id) if isinstance(artist_id, str) else None

    def get(self, artist_id: str) -> Artist | None:
        """Find an artist by her id."""
        with self._index.session() as session:
            row = session.get(ArtistRow, artist_id)
            return Artist(row.id, row.name) if row else None

    def guest(self) -> Artist:
        """Return the one artist that all callers of the API without an identity share."""
        return self.get(GUEST_ID) or self._keep(Artist(GUEST_ID, "guest"))

    def create(self, name: str) -> Artist:
        """Welcome a new artist.

        Raises:
            BadInput: her name cannot be shown, or the disk is full.
        """
        return self._keep(Artist(uuid.uuid4().hex, check_name(name)))

    def rename(self, artist_id: str, name: str) -> Artist:
        """Give an artist another name.

        Raises:
            BadInput: the name cannot be shown, or the disk is full.
        """
        return self._keep(Artist(artist_id, check_name(name)))

    def cookie(self, artist: Artist) -> str:
        """Sign an artist's identity for her browser."""
        return self._signer.dumps(artist.id)

    def _keep(self, artist: Artist) -> Artist:
        with refusing_when_full(), self._index.session.begin() as session:
            row = session.get(ArtistRow, artist.id) or ArtistRow(id=artist.id, created=now())
            row.name = artist.name
            session.add(row)
            folder = self._data.artist(artist.id)
            folder.mkdir(exist_ok=True)
            # The index can be rebuilt from this. Written before the commit: no artist without it.
            words = {"id": row.id, "name": row.name, "created": row.created.isoformat()}
            write_file(folder / "artist.json", json.dumps(words, ensure_ascii=False).encode())
        return artist


def check_name(name: str) -> str:
    """Check an artist's name.

    Returns:
        The name without spaces around it.

    Raises:
        BadInput: empty, too long, or with characters that cannot be shown.
    """
    name = name.strip()
    kinds = [unicodedata.category(character) for character in name]
    if _TURNING.intersection(name) or _REFUSED_CATEGORIES.intersection(kinds):
        raise BadInput("A name is one line of letters: it cannot have control characters.", "name")
    if not any(kind[0] in _VISIBLE_KINDS for kind in kinds):
        raise BadInput(f"Please give a name, of 1 to {MAX_NAME_CHARACTERS} characters.", "name")
    if len(name) > MAX_NAME_CHARACTERS:
        raise BadInput(
            f"This name has {len(name)} characters; {MAX_NAME_CHARACTERS} is the most.",
            "name",
        )
    return name


def _read_secret(data: DataDir) -> bytes:
    """Read the signing key, or draw one at the first start; only the studio's user may read it."""
    if not data.secret.exists():
        write_file(data.secret, secrets.token_hex(_SECRET_BYTES).encode(), mode=0o600)
    data.secret.chmod(0o600)
    return data.secret.read_bytes()
