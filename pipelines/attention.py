"""Which part of the picture each word of the prompt was read for: averaged cross-attention.

Tang et al. 2023, "What the DAAM" (equations 5 to 8): the attention that the places of the picture pay to a
word, averaged over heads and layers. Nothing of it is kept while painting: a kept timeline has everything the
network was asked, so that it can be asked again, and only when somebody wants to see it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipelines.denoising import Rows
from pipelines.heat import Heat
from pipelines.models.sd import StableDiffusion
from pipelines.recipe import BadInput, Recipe
from pipelines.timeline import Timeline

_AT_ONCE_ON_ACCELERATOR = 8


@dataclass(slots=True)
class _Watcher:
    """Takes the place of a cross-attention's processor: does the same and adds up what is looked at.

    `size` is that of the latents (h, w); `seen` becomes the sum of (n, h, w, tokens) over `layers` layers.
    """

    size: tuple[int, int] = (1, 1)
    seen: Tensor | None = None
    layers: int = 0

    def look(self, attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor) -> None:
        """Add one layer's attention: softmax of query times key, averaged over its heads."""
        query = attention.head_to_batch_dim(attention.to_q(hidden_states))
        key = attention.head_to_batch_dim(attention.to_k(encoder_hidden_states))
        paid = attention.get_attention_scores(query, key).float()
        by_place = paid.unflatten(0, (len(hidden_states), -1)).mean(1)
        height, width = _size_of(by_place.shape[1], self.size)
        map_ = by_place.transpose(1, 2).unflatten(2, (height, width))
        large = interpolate(map_, size=self.size, mode="bilinear", align_corners=False)
        self.seen = large if self.seen is None else self.seen + large
        self.layers += 1


@dataclass(slots=True)
class _Processor:
    usual: Any
    watcher: _Watcher

    def __call__(
        self, attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *rest: Any, **options: Any
    ) -> Tensor:
        self.watcher.look(attention, hidden_states, encoder_hidden_states)
        return self.usual(attention, hidden_states, encoder_hidden_states, *rest, **options)


class _Passed(nn.Module):
    """Stands for a part of the network behind the last look at the prompt."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states


class Attention:
    """Asks a model's network again and watches its cross-attention; its own network is not touched."""

    def __init__(self, model: StableDiffusion) -> None:
        self._model = model
        self._watcher = _Watcher()
        self._unet = model.unet_on_same_weights()
        for name, module in self._unet.named_modules():
            if name.endswith("attn2"):
                module.set_processor(_Processor(module.processor, self._watcher))
        _leave_out_the_rest(self._unet)

    @torch.inference_mode()
    def see(self, rows: Rows) -> Tensor:
        """Return how much each place looks at each token: (n, tokens, h, w), summing to 1 over tokens.

        `rows` are as for `StableDiffusion.predict`.
        """
        watcher, dtype = self._watcher, self._model.dtype
        watcher.size = (rows.latents.shape[-2], rows.latents.shape[-1])
        watcher.seen, watcher.layers = None, 0
        self._unet(rows.latents.to(dtype), rows.timestep, rows.prompt_embeds.to(dtype), return_dict=False)
        seen, watcher.seen = watcher.seen, None
        assert seen is not None, "a network that reads a prompt has cross-attention"
        return seen / watcher.layers

    def look_again(self, timeline: Timeline) -> Looks:
        """Look at a kept run again, under the prompt that each step was painted with.

        Not every step is looked at, so that it takes at most 30 % of the run's time: between two looks the
        attention of a place hardly changes.

        Raises:
            BadInput: a frame is missing or damaged.
        """
        model, recipe = self._model, timeline.recipe
        embeds = {member.prompt: model.encode_prompt([member.prompt]) for member in recipe.lineage()}
        steps = _looked_at(len(timeline.steps), guided=recipe.guidance_scale > 1)
        at_once = 1 if model.device.type == "cpu" else _AT_ONCE_ON_ACCELERATOR
        seen: list[Tensor] = []
        for start in range(0, len(steps), at_once):
            batch = steps[start : start + at_once]
            rows = Rows(
                torch.cat([timeline.frame(step).noisy for step in batch]).to(model.device),
                torch.tensor([timeline.steps[step].timestep for step in batch], device=model.device),
                torch.cat([embeds[_painted_with(recipe, step).prompt] for step in batch]),
            )
            seen.append(self.see(rows).half().cpu())
        read = max(len(model.token_spans(prompt)) for prompt in embeds)
        return Looks(steps, torch.cat(seen)[:, :read].contiguous())


@dataclass(frozen=True, slots=True)
class Looks:
    """What was seen of a run: the steps looked at, and (looks, tokens, h, w) in float16."""

    steps: list[int]
    heat: Tensor

    def save(self, file: Path) -> None:
        """Keep it beside the run's frames, whole or not at all."""
        partial = file.with_suffix(".partial")
        save_file({"steps": torch.tensor(self.steps), "heat": self.heat}, partial)
        partial.replace(file)


def read_looks(file: Path) -> Looks | None:
    """Read what `Looks.save` wrote; None when it is missing or damaged."""
    try:
        tensors = load_file(file)
        return Looks(tensors["steps"].tolist(), tensors["heat"])
    except (OSError, SafetensorError, KeyError):
        return None


def word_heat(model: StableDiffusion, timeline: Timeline, looks: Looks, word: str) -> Heat:
    """Tell where a word of the prompt was looked for, at every step; between two looks it is mixed of both.

    Where the word stands more than once, or is several tokens, their average.

    Raises:
        BadInput: the prompt has no such word, or the model does not read that far.
    """
    tokens = {member.prompt: tokens_of(model, member.prompt, word) for member in timeline.recipe.lineage()}
    if not any(tokens.values()):
        raise BadInput(f"The prompt of this picture has no word “{word}” that the model reads.", "word")
    looked: dict[int, Tensor] = {}
    for step, map_ in zip(looks.steps, looks.heat.float(), strict=True):
        if found := tokens[_painted_with(timeline.recipe, step).prompt]:
            looked[step] = map_[found].mean(0)
    return [_between(looked, step) for step in range(len(timeline.steps))]


def tokens_of(model: StableDiffusion, prompt: str, word: str) -> list[int]:
    """List the places in the token sequence at which a word stands in a prompt, whatever its case."""
    spans = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE)]
    return [
        place
        for place, (start, stop) in enumerate(model.token_spans(prompt))
        if start < stop and any(start < after and before < stop for before, after in spans)
    ]


def _between(looked: dict[int, Tensor], step: int) -> Tensor | None:
    before = max((at for at in looked if at <= step), default=None)
    after = min((at for at in looked if at >= step), default=None)
    if before is None:
        return None  # a branch whose parent's prompt had no such word
    if after is None:
        return looked[before]
    share = (step - before) / (after - before) if after > before else 0.0
    return torch.lerp(looked[before], looked[after], share)


def _looked_at(steps: int, *, guided: bool) -> list[int]:
    """Choose the steps to look at: of a guided step's two rows one is asked, of any other's one the one."""
    return list(range(0, steps, 3 if guided else 4))


def _painted_with(recipe: Recipe, step: int) -> Recipe:
    """Find which of a picture's ancestors, or itself, decided a step."""
    return next(
        member for member in reversed(recipe.lineage()) if member.branch is None or member.branch.step <= step
    )


def _size_of(places: int, size: tuple[int, int]) -> tuple[int, int]:
    """Find the size of a layer's map: the latents', halved as often as gives so many places."""
    height, width = size
    while height * width > places:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != places:
        raise AssertionError(f"no halving of {size} has {places} places")
    return height, width


def _leave_out_the_rest(unet: Any) -> None:
    """Leave out what comes behind the last cross-attention: its answer is not wanted."""
    last = max(
        place for place, block in enumerate(unet.up_blocks) if getattr(block, "has_cross_attention", False)
    )
    unet.up_blocks[last].upsamplers = None
    for place in range(last + 1, len(unet.up_blocks)):
        passed = _Passed()
        passed.resnets = unet.up_blocks[place].resnets  # the network counts them to share out its skips
        unet.up_blocks[place] = passed
    unet.conv_norm_out = None
    unet.conv_out = nn.Identity()
