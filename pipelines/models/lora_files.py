"""The LoRA files of a studio: which there are, and which fit its model. No torch at import."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipelines.models.find import PICKLES, ModelFolder, weight_files
from pipelines.models.lora_names import LoraNames, Shape, read_lora_names
from pipelines.models.revisions import revision_of
from pipelines.recipe import BadInput, Recipe
from pipelines.styles import Lora

_SUFFIX = ".safetensors"
_METADATA = "__metadata__"
_PEFT_METADATA = "lora_adapter_metadata"
_PICTURE_ONLY = (
    "Only its picture part is used: what it would change in how the prompt is read is left to the model."
)


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A file in a folder of LoRAs: its name without the ending, and the SHA-256 by which recipes know it.

    `refusal` says in a sentence why it cannot be used, empty where it can, and then there is no hash; `note`
    what of it is not used.
    """

    name: str
    path: Path
    sha256: str = ""
    refusal: str = ""
    note: str = ""


@dataclass(slots=True)
class LoraShelf:
    """The LoRA files in some folders, read anew whenever somebody asks, so that a file can just be put there.

    Of two files of one name the one in the earlier folder counts. Only headers are read to see what fits, and
    a file is hashed once while it stays as it is. `where` says where to put a file.
    """

    folders: tuple[Path, ...]
    model: ModelFolder
    where: str = "the folder of LoRAs"
    _read: dict[tuple[Path, int, int], LoraFile] = field(
        default_factory=dict[tuple[Path, int, int], LoraFile]
    )
    _layers: dict[str, Shape] = field(default_factory=dict[str, Shape])

    def files(self) -> list[LoraFile]:
        """List the files by name, those that cannot be used too."""
        found: dict[str, LoraFile] = {}
        for folder in self.folders:
            # A pickle does not hide the safetensors file that it was converted to.
            for path in sorted(folder.glob("*"), key=lambda path: (path.suffix != _SUFFIX, path)):
                if path.suffix in (_SUFFIX, *PICKLES) and path.stem not in found and path.is_file():
                    found[path.stem] = self._file(path)
        return sorted(found.values(), key=lambda file: file.name.lower())

    def usable(self) -> list[LoraFile]:
        """List the files that can be used."""
        return [file for file in self.files() if not file.refusal]

    def find(self, lora: Lora) -> LoraFile:
        """Find the file that a recipe names by its hash, whatever it is called here.

        Raises:
            BadInput: it is not here, or another file has its name.
        """
        files = self.files()
        for file in files:
            if file.sha256 == lora.sha256:
                return file
        same = next((file for file in files if file.name == lora.name), None)
        if same is not None and same.refusal:
            raise BadInput(same.refusal, "mix")
        if same is not None:
            raise BadInput(
                f"This picture needs the LoRA {lora.name} ({lora.sha256[:8]}), and the file of that name "
                f"here is another ({same.sha256[:8]}): it would differ. Put the same file into {self.where}.",
                "mix",
            )
        raise BadInput(
            f"This picture needs the LoRA {lora.name} ({lora.sha256[:8]}), which is not here: put its file "
            f"into {self.where}.",
            "mix",
        )

    def check(self, recipe: Recipe) -> None:
        """See that every LoRA of a recipe and of its ancestors is here.

        Raises:
            BadInput: one is missing.
        """
        for member in recipe.lineage():
            for lora in member.loras:
                self.find(lora)

    def chosen(self, loras: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
        """Fill in the hashes of LoRAs that were chosen by `name`; one that has a `sha256` keeps it.

        Raises:
            BadInput: there is no such file, or it cannot be used.
        """
        return [lora if lora.get("sha256") else {**lora, "sha256": self._hash_of(lora)} for lora in loras]

    def _hash_of(self, lora: Mapping[str, object]) -> str:
        name = str(lora.get("name", ""))
        files = self.files()
        for file in files:
            if file.name == name:
                if file.refusal:
                    raise BadInput(file.refusal, "mix")
                return file.sha256
        known = ", ".join(file.name for file in files if not file.refusal) or "none"
        raise BadInput(
            f"There is no LoRA called {name or 'nothing'} in {self.where}. Here are: {known}.", "mix"
        )

    def _file(self, path: Path) -> LoraFile:
        try:
            stat = path.stat()
            key = (path, stat.st_size, stat.st_mtime_ns)
            if key not in self._read:
                self._read[key] = self._look_at(path)
            return self._read[key]
        except OSError as error:
            return LoraFile(path.stem, path, refusal=f"{path.name} cannot be read: {error.strerror}.")

    def _look_at(self, path: Path) -> LoraFile:
        if path.suffix != _SUFFIX:
            return LoraFile(
                path.stem,
                path,
                refusal=f"{path.name} is a pickle, which can run any program when it is opened: Atelier "
                "reads LoRAs as safetensors only.",
            )
        try:
            names = LoraHeader.read(path).names(self.layers)
        except BadInput as error:
            return LoraFile(path.stem, path, refusal=f"{path.name} {error}")
        return LoraFile(path.stem, path, revision_of([path]), note=_PICTURE_ONLY if names.reads_text else "")

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
    """Read the shapes of the weights of a model's U-Net, by layer: those that a LoRA can change."""
    end = ".weight"
    return {
        name.removesuffix(end): shape
        for file in unet_files(model)
        for name, shape in LoraHeader.read(file).shapes.items()
        if name.endswith(end) and len(shape) in (2, 4)
    }


@dataclass(frozen=True)
class LoraHeader:
    """What a safetensors file says of itself before its numbers: the tensors' shapes, and its metadata."""

    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]

    @staticmethod
    def read(file: Path) -> LoraHeader:
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
        return LoraHeader(shapes, {} if told is None else told.strings)

    def names(self, layers: Mapping[str, Shape]) -> LoraNames:
        """Find the layers that its tensors change, see `read_lora_names`."""
        return read_lora_names(self.shapes, layers)

    def scale(self, layer: str, rank: int) -> float:
        """Return what the product of a layer's two matrices is multiplied by, where no tensor says it.

        That is 1, but where PEFT wrote its settings beside the matrices: alpha over the rank, or, "rank
        stabilised" (Kalajdzievski 2023), over its root.
        """
        settings = self._settings
        alpha = settings.alpha_of(layer)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if settings.use_rslora else rank)

    @cached_property
    def _settings(self) -> _Settings:
        try:
            told = _WORDS.validate_json(self.metadata.get(_PEFT_METADATA, "{}"))
            unet = {name.removeprefix("unet."): value for name, value in told.items()}
            return _Settings.model_validate(unet)
        except ValidationError:
            return _Settings()


class _Tensor(BaseModel):
    """A tensor in a header, or, under a name of its own, the file's metadata."""

    model_config = ConfigDict(extra="allow")

    shape: tuple[int, ...] = ()
    data_offsets: tuple[int, int] = (0, 0)

    @property
    def strings(self) -> dict[str, str]:
        return {name: value for name, value in (self.model_extra or {}).items() if isinstance(value, str)}


class _Settings(BaseModel):
    """What PEFT says of a LoRA, of which this is needed."""

    lora_alpha: float | None = None
    alpha_pattern: dict[str, float] = {}
    use_rslora: bool = False

    def alpha_of(self, layer: str) -> float | None:
        """Return the alpha of a layer: a pattern is the end of its name, as a regular expression."""
        for pattern, alpha in self.alpha_pattern.items():
            if re.fullmatch(rf"(.*\.)?{pattern}", layer):
                return alpha
        return self.lora_alpha


_TENSORS = TypeAdapter(dict[str, _Tensor])
_WORDS = TypeAdapter(dict[str, object])
_LONGEST_HEADER = 100_000_000
