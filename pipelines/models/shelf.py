"""Shelves: files of one kind that artists put beside a model, and which fit it. No torch at import."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipelines.models.find import PICKLES, ModelFolder, weight_files
from pipelines.models.lora_names import Shape
from pipelines.models.revisions import revision_of
from pipelines.recipe import BadInput, Recipe

SUFFIX = ".safetensors"
_METADATA = "__metadata__"
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class ShelfFile:
    """A file on a shelf: its name without the ending, and the SHA-256 by which recipes know it.

    `refusal` says in a sentence why it cannot be used, empty where it can, and then there is no hash; `note`
    what an artist should know of it. `encoder` is the folder of its image encoder, where it needs one.
    """

    name: str
    path: Path
    sha256: str = ""
    refusal: str = ""
    note: str = ""
    encoder: Path | None = None


class Named(Protocol):
    """What a recipe says of a file that it needs."""

    @property
    def name(self) -> str:
        """Its name when the recipe was made."""
        ...

    @property
    def sha256(self) -> str:
        """Its content, which alone decides."""
        ...


@dataclass
class Shelf(ABC):
    """The files of one kind in some folders, read anew whenever somebody asks: a file can just be put there.

    Of two files of one name the one in the earlier folder counts. A file is read and hashed once while it
    stays as it is. `where` says where to put a file.
    """

    folders: tuple[Path, ...]
    model: ModelFolder
    where: str
    _read: dict[Hashable, ShelfFile] = field(default_factory=dict[Hashable, ShelfFile], init=False)
    _digests: dict[Hashable, str] = field(default_factory=dict[Hashable, str], init=False)
    _layers: dict[str, Shape] = field(default_factory=dict[str, Shape], init=False)

    what: ClassVar[str]

    @abstractmethod
    def _wanted(self, recipe: Recipe) -> Sequence[Named]:
        """List the files that one recipe needs, without its ancestors."""

    @abstractmethod
    def _look_at(self, path: Path) -> ShelfFile:
        """Read a safetensors file; raises BadInput with the end of a sentence that begins with its name."""

    def _within(self, folder: Path) -> Iterable[Path]:
        """List what may be a file of this kind."""
        return folder.glob("*")

    def _state(self, path: Path) -> Hashable:
        """Tell what changes when a file does."""
        stat = path.stat()
        return path, stat.st_size, stat.st_mtime_ns

    def files(self) -> list[ShelfFile]:
        """List the files by name, those that cannot be used too."""
        found: dict[str, ShelfFile] = {}
        for folder in self.folders:
            # A pickle does not hide the safetensors file that it was converted to.
            for path in sorted(self._within(folder), key=lambda path: (path.suffix != SUFFIX, path)):
                if path.suffix in (SUFFIX, *PICKLES) and path.stem not in found and path.is_file():
                    found[path.stem] = self._file(path)
        return sorted(found.values(), key=lambda file: file.name.lower())

    def usable(self) -> list[ShelfFile]:
        """List the files that can be used."""
        return [file for file in self.files() if not file.refusal]

    def find(self, named: Named) -> ShelfFile:
        """Find the file that a recipe names by its hash, whatever it is called here.

        Raises:
            BadInput: it is not here, or another file has its name.
        """
        files = self.files()
        for file in files:
            if file.sha256 == named.sha256:
                return file
        needed = f"This picture needs the {self.what} {named.name} ({named.sha256[:8]}), "
        same = next((file for file in files if file.name == named.name), None)
        if same is not None and same.refusal:
            raise BadInput(same.refusal, "mix")
        if same is not None:
            raise BadInput(
                f"{needed}and the file of that name here is another ({same.sha256[:8]}): it would differ. "
                f"Put the same file into {self.where}.",
                "mix",
            )
        raise BadInput(f"{needed}which is not here: put its file into {self.where}.", "mix")

    def check(self, recipe: Recipe) -> None:
        """See that every file that a recipe and its ancestors need is here.

        Raises:
            BadInput: one is missing.
        """
        for member in recipe.lineage():
            for named in self._wanted(member):
                self.find(named)

    def chosen(self, typed: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
        """Fill in the hashes of files that were chosen by `name`; one that has a `sha256` keeps it.

        Raises:
            BadInput: there is no such file, or it cannot be used.
        """
        return [
            one if one.get("sha256") else {**one, "sha256": self._hash_of(str(one.get("name", "")))}
            for one in typed
        ]

    def _hash_of(self, name: str) -> str:
        files = self.files()
        for file in files:
            if file.name == name:
                if file.refusal:
                    raise BadInput(file.refusal, "mix")
                return file.sha256
        known = ", ".join(file.name for file in files if not file.refusal) or "none"
        raise BadInput(
            f"There is no {self.what} called {name or 'nothing'} in {self.where}. Here are: {known}.", "mix"
        )

    def _file(self, path: Path) -> ShelfFile:
        if path.suffix != SUFFIX:
            return ShelfFile(
                path.stem,
                path,
                refusal=f"{path.name} is a pickle, which can run any program when it is opened: Atelier "
                f"reads {self.what}s as safetensors only.",
            )
        try:
            state = self._state(path)
            if state not in self._read:
                self._read[state] = self._look_at(path)
            return self._read[state]
        except BadInput as error:
            return ShelfFile(path.stem, path, refusal=f"{path.name} {error}")
        except OSError as error:
            return ShelfFile(path.stem, path, refusal=f"{path.name} cannot be read: {error.strerror}.")

    def digest(self, path: Path) -> str:
        """Hash a file, once while it stays as it is: SHA-256, 64 hex digits."""
        stat = path.stat()
        state = path, stat.st_size, stat.st_mtime_ns
        if state not in self._digests:
            self._digests[state] = revision_of([path])
        return self._digests[state]

    @property
    def layers(self) -> dict[str, Shape]:
        """The shapes of the weights of the model's U-Net, by layer."""
        if not self._layers:
            self._layers = unet_layers(self.model)
        return self._layers


def unet_files(model: ModelFolder) -> list[Path]:
    """List the safetensors files of a model's U-Net."""
    return weight_files(model.path, "unet", "diffusion_pytorch_model")[1]


def unet_layers(model: ModelFolder) -> dict[str, Shape]:
    """Read the shapes of the weights of a model's U-Net, by layer."""
    end = ".weight"
    return {
        name.removesuffix(end): shape
        for file in unet_files(model)
        for name, shape in Header.read(file).shapes.items()
        if name.endswith(end) and len(shape) in (2, 4)
    }


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself before its numbers: the tensors' shapes, and its metadata."""

    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a file's header: its length (8 bytes, little-endian), then JSON.

        Raises:
            BadInput: it is damaged, as the end of a sentence that begins with its name.
        """
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(min(length, _LONGEST_HEADER))
        try:
            tensors = _TENSORS.validate_json(text)
            size = max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
            if file.stat().st_size != 8 + length + size:
                raise BadInput("is damaged: it was cut short.")
        except ValidationError:
            raise BadInput("is damaged, or no safetensors file.") from None
        told = tensors.pop(_METADATA, None)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        return cls(shapes, {} if told is None else told.strings)


class _Tensor(BaseModel):
    """A tensor in a header, or, under a name of its own, the file's metadata."""

    model_config = ConfigDict(extra="allow")

    shape: tuple[int, ...] = ()
    data_offsets: tuple[int, int] = (0, 0)

    @property
    def strings(self) -> dict[str, str]:
        return {name: value for name, value in (self.model_extra or {}).items() if isinstance(value, str)}


_TENSORS = TypeAdapter(dict[str, _Tensor])
