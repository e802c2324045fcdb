"""Presets: the mixes that an artist gave a name to, one small file each under her own folder."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.recipe import BadInput
from pipelines.styles import Mix
from studio.files import DataDir, write_file
from studio.gallery import NotHers, is_id
from studio.index import now
from studio.sentences import refusing_when_full

log = logging.getLogger(__name__)

MAX_PRESETS = 200
MAX_PRESET_NAME_CHARACTERS = 60


class Preset(BaseModel):
    """A mix with a name; `artwork` is the id of a picture that shows it, if she chose one."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    created: datetime
    mix: Mix
    artwork: str | None = None


class Presets:
    """Every artist's presets, read from disk when asked for: there are few, and they outlive the index."""

    def __init__(self, data: DataDir) -> None:
        self._data = data

    def of(self, artist_id: str) -> list[Preset]:
        """List an artist's presets, the newest first."""
        folder = self._data.presets(artist_id)
        found = [self._read(artist_id, file.stem) for file in folder.glob("*.json")]
        return sorted((preset for preset in found if preset), key=lambda one: one.created, reverse=True)

    def save(self, artist_id: str, name: str, mix: Mix, artwork: str | None = None) -> Preset:
        """Keep a mix under a name; one that she has under that name already is replaced.

        Raises:
            BadInput: no name, too long a one, too many presets, or a full disk.
        """
        name = " ".join(name.split())
        if not 1 <= len(name) <= MAX_PRESET_NAME_CHARACTERS:
            raise BadInput(f"Give the mix a name of 1 to {MAX_PRESET_NAME_CHARACTERS} characters.", "preset")
        known = self.of(artist_id)
        same = next((preset for preset in known if preset.name == name), None)
        if same is None and len(known) >= MAX_PRESETS:
            raise BadInput(f"{MAX_PRESETS} mixes are kept already: delete one first.", "preset")
        # Made of the name: kept twice at the same moment, it is one file all the same.
        preset_id = same.id if same else uuid.uuid5(uuid.UUID(int=0), name).hex
        preset = Preset(id=preset_id, name=name, created=now(), mix=mix, artwork=artwork)
        folder = self._data.presets(artist_id)
        with refusing_when_full():
            folder.mkdir(parents=True, exist_ok=True)
            write_file(folder / f"{preset.id}.json", preset.model_dump_json(indent=1).encode())
        return preset

    def delete(self, artist_id: str, preset_id: str) -> None:
        """Delete one of her presets.

        Raises:
            NotHers: she has no such preset.
        """
        if not is_id(preset_id) or self._read(artist_id, preset_id) is None:
            raise NotHers("mix")
        (self._data.presets(artist_id) / f"{preset_id}.json").unlink(missing_ok=True)

    def _read(self, artist_id: str, preset_id: str) -> Preset | None:
        file = self._data.presets(artist_id) / f"{preset_id}.json"
        try:
            return Preset.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            log.warning("the preset %s cannot be read and is left out", file)
            return None
