"""How the files of LoRAs name what they change: diffusers', PEFT's and kohya's names. No torch at import."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pipelines.refusal import BadInput

Shape = tuple[int, ...]

_ENDS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".alpha": "alpha",
}
_KOHYA = "lora_unet_"
_TEXT = ("lora_te", "text_encoder", "base_model.model.text_model.")
# Other ways of writing an update, which are no product of two matrices alone.
_OTHER_KINDS = {
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "lora_mid": "a LoCon with a middle part",
    "oft_": "an OFT",
    ".diff": "a difference of whole weights",
}


@dataclass(slots=True)
class Named:
    """What a file has for one layer: the names of its tensors, `alpha` where it says its scale so."""

    down: str = ""
    up: str = ""
    alpha: str = ""


@dataclass(frozen=True, slots=True)
class LoraNames:
    """The tensors of a LoRA by the U-Net layer they change; `reads_text` where it has some for the prompt."""

    layers: dict[str, Named] = field(default_factory=dict[str, Named])
    reads_text: bool = False


def read_lora_names(tensors: Mapping[str, Shape], layers: Mapping[str, Shape]) -> LoraNames:
    """Find the layer of each tensor of a LoRA's file.

    Args:
        tensors: the shapes of the file's tensors, by name.
        layers: the shapes of the weights of a U-Net's layers, by diffusers' name of the layer.

    Raises:
        BadInput: with why it cannot be added to this U-Net, as the end of a sentence that begins with its
            name.
    """
    flat = _flat_names(layers)
    found: dict[str, Named] = {}
    reads_text = False
    for name in tensors:
        end = next((end for end in _ENDS if name.endswith(end)), None)
        if name.startswith(_TEXT):
            reads_text = True
            continue
        if end is None:
            raise BadInput(_other(name))
        root = name.removesuffix(end)
        layer = flat.get(root.removeprefix(_KOHYA)) if root.startswith(_KOHYA) else _dotted(root, layers)
        if layer is None:
            raise BadInput(f"was made for another kind of model: this one has no layer for its {root}.")
        setattr(found.setdefault(layer, Named()), _ENDS[end], name)
    for layer, named in found.items():
        if not named.down or not named.up:
            raise BadInput(f"is damaged: half of its update of {layer} is missing.")
        if not _fits(tensors[named.down], tensors[named.up], layers[layer]):
            raise BadInput(f"was made for another kind of model: its update of {layer} has another size.")
    if not found:
        only = "changes only how the prompt is read, which Atelier leaves to the model."
        raise BadInput(only if reads_text else "holds no LoRA.")
    return LoraNames(found, reads_text)


def _other(name: str) -> str:
    kind = next((kind for part, kind in _OTHER_KINDS.items() if part in name), None)
    if kind is None:
        return f"holds no LoRA: nothing is known of its {name}."
    return f"is {kind}, and Atelier adds plain LoRAs only."


def _dotted(root: str, layers: Collection[str]) -> str | None:
    """Find a layer by a name with dots, in which the attention processors of older files are left out."""
    for prefix in ("base_model.model.", "unet."):
        root = root.removeprefix(prefix)
    root = root.replace(".processor.", ".")
    return next((name for name in (root, f"{root}.0") if name in layers), None)


def _fits(down: Shape, up: Shape, weight: Shape) -> bool:
    """Tell whether up times down has a weight's shape; a kernel of one place may be left out or written."""
    if len(down) < 2 or len(up) < 2 or up[1] != down[0] or any(side != 1 for side in up[2:]):
        return False
    return _without_ones((up[0], *down[1:])) == _without_ones(weight)


def _without_ones(shape: Shape) -> Shape:
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


def _flat_names(layers: Iterable[str]) -> dict[str, str]:
    """Return layers by kohya's names, which have no dots: of diffusers' own, and of the first release's."""
    names = list(layers)
    per_level = 1 + max((int(match[1]) for name in names if (match := _RESNET.match(name))), default=0)
    looking = {int(match[1]) for name in names if (match := _UP_ATTENTION.match(name))}
    flat = {_release_name(name, per_level, looking).replace(".", "_"): name for name in names}
    return flat | {name.replace(".", "_"): name for name in names}


_RESNET = re.compile(r"down_blocks\.\d+\.resnets\.(\d+)\.")
_UP_ATTENTION = re.compile(r"up_blocks\.(\d+)\.attentions\.")
_BLOCK = re.compile(
    r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_MID = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
_IN_RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_out": "out.2",
}


def _release_name(name: str, per_level: int, looking: Collection[int]) -> str:
    """Name a layer as Stability's own code does, in which blocks are numbered through.

    `per_level` is how many a level has on the way down; `looking` are the levels on the way up that have
    attention.
    """
    if mid := _MID.fullmatch(name):
        kind, number, rest = mid.groups()
        place = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block.{place}.{_IN_RESNET.get(rest, rest)}"
    block = _BLOCK.fullmatch(name)
    if block is None:
        return _OUTSIDE.get(name, name)
    side, level, kind, number, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
    first = level * (per_level + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + per_level + 1}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{first + per_level}.{2 if level in looking else 1}.{rest}"
    place = f"output_blocks.{first + number}" if side == "up_blocks" else f"input_blocks.{first + number + 1}"
    return f"{place}.{1 if kind == 'attentions' else 0}.{_IN_RESNET.get(rest, rest)}"
