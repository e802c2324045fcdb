"""The IP-Adapter files of a studio: which there are, and which fit its model. No torch at import."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ValidationError

from pipelines.models.find import weight_files
from pipelines.models.lora_names import Shape
from pipelines.models.shelf import Header, Shelf, ShelfFile
from pipelines.recipe import BadInput, Recipe
from pipelines.styles import IPAdapter

Kind = Literal["whole", "detailed"]

_ENCODER = "CLIPVisionModelWithProjection"
# The width at which a network reads words tells its family.
_FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
_NOTES: dict[Kind, str] = {
    "whole": "Takes over what it shows as a whole: subject, mood, colours.",
    "detailed": "Takes over what it shows, place by place and down to details.",
}


@dataclass
class IPAdapterShelf(Shelf):
    """The IP-Adapters in some folders and in the folders within, as they are released.

    An adapter needs an image encoder in the folder layout of transformers, anywhere on the shelf: of those
    that have the width it was trained for, the one nearest to it is taken.
    """

    where: str = "the folder of IP-Adapters"
    what: ClassVar[str] = "IP-Adapter"

    def followed_through(self, references: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
        """Fill in the hashes of the adapters that pictures are followed through, by `ip_adapter`.

        That is a name, or as a recipe has it; a picture without one is left as it is.

        Raises:
            BadInput: there is no such adapter, or it cannot be used.
        """
        filled: list[Mapping[str, object]] = []
        for one in references:
            adapter = one.get("ip_adapter")
            if adapter:
                (adapter,) = self.chosen([adapter if isinstance(adapter, Mapping) else {"name": adapter}])
            filled.append({**one, "ip_adapter": adapter})
        return filled

    def _wanted(self, recipe: Recipe) -> Sequence[IPAdapter]:
        return recipe.ip_adapters

    def _within(self, folder: Path) -> Iterable[Path]:
        files = (path for pattern in ("*", "*/*") for path in folder.glob(pattern))
        # What lies beside a config.json are the weights of an encoder.
        return (path for path in files if not (path.parent / "config.json").exists())

    def _state(self, path: Path) -> Hashable:
        encoders = [
            super(IPAdapterShelf, self)._state(file) for one in self._encoders() for file in one.glob("*")
        ]
        return super()._state(path), *encoders

    def _encoders(self) -> list[Path]:
        """List the folders of image encoders."""
        patterns = ("*/config.json", "*/*/config.json")
        found = (
            file for folder in self.folders for pattern in patterns for file in sorted(folder.glob(pattern))
        )
        return [file.parent for file in found]

    def _look_at(self, path: Path) -> ShelfFile:
        layout = Layout.read(path)
        self._check_network(layout)
        encoder = self._encoder_of(path, layout)
        digests = "".join(self.digest(file) for file in (path, *weights_of(encoder)))
        return ShelfFile(
            path.stem,
            path,
            hashlib.sha256(digests.encode()).hexdigest(),
            note=_NOTES[layout.kind],
            encoder=encoder,
        )

    def _check_network(self, layout: Layout) -> None:
        """See that an adapter was trained for networks like the model's."""
        own = sorted(shape for name, shape in self.layers.items() if name.endswith("attn2.to_k"))
        ours, theirs = own[0][1], layout.layers[0][1]
        if ours != theirs:
            families = {width: f" ({family})" for width, family in _FAMILIES.items()}
            raise BadInput(
                f"is made for networks that read words as {theirs} numbers{families.get(theirs, '')}, and "
                f"{self.model.name} reads {ours}{families.get(ours, '')}: get the one of its family."
            )
        if own != layout.layers:
            raise BadInput(
                f"is made for {len(layout.layers)} layers of cross-attention that are not those of "
                f"{self.model.name}, which has {len(own)}: get the one of its family."
            )

    def _encoder_of(self, path: Path, layout: Layout) -> Path:
        """Find the image encoder that an adapter was trained with."""
        encoders = {folder: _Encoder.read(folder) for folder in self._encoders()}
        known = {folder: encoder for folder, encoder in encoders.items() if encoder is not None}
        if not known:
            raise BadInput(
                f"has no image encoder: put the folder image_encoder of its release, with config.json and "
                f"model.safetensors, beside it into {self.where}."
            )
        fitting = [
            folder for folder, encoder in known.items() if encoder.width_for(layout.kind) == layout.width
        ]
        if not fitting:
            here = ", ".join(
                f"{folder.name} gives {one.width_for(layout.kind)}" for folder, one in known.items()
            )
            raise BadInput(
                f"reads a picture as {layout.width} numbers, and {here}: put the image encoder of its own "
                f"release beside it into {self.where}."
            )
        return min(fitting, key=lambda folder: (folder.parent != path.parent, folder))


def weights_of(encoder: Path) -> list[Path]:
    """List the safetensors files of an image encoder; BadInput, as the end of a sentence, without any."""
    try:
        return weight_files(encoder.parent, encoder.name, "model")[1]
    except BadInput:
        raise BadInput(
            f"has its image encoder in {encoder.name}, but not as model.safetensors: Atelier reads no "
            "pickle, which can run any program when it is opened."
        ) from None


@dataclass(frozen=True, slots=True)
class Layout:
    """What the tensors of an adapter tell of it.

    It reads a picture as a `whole`, one vector, or `detailed`, a vector for each place of the encoder's last
    layer but one, of `width` numbers. `layers` are the shapes of its keys' projections, sorted.
    """

    kind: Kind
    width: int
    layers: list[Shape]

    @staticmethod
    def read(file: Path) -> Layout:
        """Read a file's header.

        Raises:
            BadInput: it is damaged or no such adapter, as the end of a sentence that begins with its name.
        """
        shapes = Header.read(file).shapes
        seen = {
            name.removeprefix("image_proj."): shape
            for name, shape in shapes.items()
            if name.startswith("image_proj.")
        }
        layers = sorted(
            shape
            for name, shape in shapes.items()
            if name.startswith("ip_adapter.") and name.endswith(".to_k_ip.weight")
        )
        if not seen or not layers:
            raise BadInput("is no IP-Adapter: it has no image_proj and ip_adapter weights.")
        match seen:
            case {"proj.weight": (_, width)}:
                return Layout("whole", width, layers)
            case {"proj.0.weight": (width, _), "proj.3.weight": _}:
                return Layout("detailed", width, layers)
            case {"latents": _, "proj_in.weight": (_, width)}:
                return Layout("detailed", width, layers)
            case _:
                raise BadInput(
                    "is a FaceID adapter or of a later kind: Atelier reads those that look at a picture with "
                    "CLIP (ip-adapter, -plus, -plus-face, -full-face)."
                )


class _Encoder(BaseModel):
    """The config.json of an image encoder, of which this is needed, with transformers' defaults."""

    architectures: tuple[str, ...] = ()
    hidden_size: int = 768
    projection_dim: int = 512

    @staticmethod
    def read(folder: Path) -> _Encoder | None:
        """Read it; None where it is another kind of network, or damaged."""
        try:
            read = _Encoder.model_validate_json((folder / "config.json").read_bytes())
        except (OSError, ValidationError):
            return None
        return read if _ENCODER in read.architectures else None

    def width_for(self, kind: Kind) -> int:
        return self.projection_dim if kind == "whole" else self.hidden_size
