"""Which part of the picture each word of the prompt was read for: averaged cross-attention.

Tang et al. 2023, "What the DAAM" (equations 5 to 8): the attention that the places of the picture pay to a
word, averaged over heads and layers. Nothing of it is kept while painting: a kept timeline has everything the
network was asked, so that it can be asked again, and only when somebody wants to see it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipelines.conditioning import concatenate
from pipelines.denoising import Rows
from pipelines.guidance import Guidance, Voice
from pipelines.heat import Heat
from pipelines.models.adapters import Adapter
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import Asked, asked_of
from pipelines.recipe import BadInput, Recipe
from pipelines.sources import OpenSource, no_sources
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
        self._unets: WeakKeyDictionary[Adapter, Any] = WeakKeyDictionary()

    def _watched(self, name: str) -> Any:
        """Return the network of some weights as it is watched."""
        adapter = self._model.adapters[name]
        if adapter not in self._unets:
            unet = self._unets[adapter] = adapter.on_same_weights()
            for place, module in unet.named_modules():
                if place.endswith("attn2"):
                    module.set_processor(_Processor(module.processor, self._watcher))
            _leave_out_the_rest(unet)
        return self._unets[adapter]

    @torch.inference_mode()
    def see(self, rows: Rows) -> Tensor:
        """Return how much each place looks at each token: (n, tokens, h, w), summing to 1 over tokens.

        `rows` are as for `StableDiffusion.predict`.
        """
        watcher = self._watcher
        watcher.size = (rows.latents.shape[-2], rows.latents.shape[-1])
        watcher.seen, watcher.layers = None, 0
        unet = self._watched(rows.adapter)
        unet(**self._model.unet_arguments(rows), return_dict=False)
        seen, watcher.seen = watcher.seen, None
        assert seen is not None, "a network that reads a prompt has cross-attention"
        return seen / watcher.layers

    def look_again(self, timeline: Timeline, open_source: OpenSource = no_sources) -> Looks:
        """Look at a kept run again, asking what was asked at each step: those words, styles and weights.

        Where styles were mixed by their predictions each was asked by itself; what they looked at counts as
        much as they had to say, at every place. Not every step is looked at, so that it takes at most 30 % of
        the run's time: between two looks the attention of a place hardly changes.

        Raises:
            BadInput: a frame is missing or damaged, or the source of a network that sees it.
        """
        model, recipe = self._model, timeline.recipe
        asked = asked_of(model, recipe, open_source)[: len(timeline.steps)]
        steps = _looked_at(asked)
        looks = [look for step in steps for look in self._looks(timeline, step, asked[step])]
        at_once = 1 if model.device.type == "cpu" else _AT_ONCE_ON_ACCELERATOR
        seen: dict[int, Tensor] = {}
        for _, alike in groupby(looks, key=lambda look: look.rows.adapter):
            group = list(alike)
            for start in range(0, len(group), at_once):
                batch = group[start : start + at_once]
                for look, map_ in zip(batch, self.see(_together(batch)), strict=True):
                    part = look.share * map_
                    seen[look.step] = seen[look.step] + part if look.step in seen else part
        read = max(len(model.token_spans(member.prompt)) for member in recipe.lineage())
        heat = torch.stack([seen[step].half().cpu() for step in steps])
        return Looks(steps, heat[:, :read].contiguous())

    def _looks(self, timeline: Timeline, step: int, asked: Asked) -> list[_Look]:
        noisy = timeline.frame(step).noisy.to(self._model.device)
        latents = noisy if asked.canvas is None else asked.canvas.show(noisy)
        timestep = torch.tensor([timeline.steps[step].timestep], device=self._model.device)
        # What is pushed away was read too, but no place was painted for it.
        shares = [voice.share.clamp(min=0) for voice in asked.guidance.voices]
        whole = sum(shares, torch.zeros_like(shares[0])).clamp(min=1e-12)
        return [
            _Look(step, _row(latents, timestep, voice, asked.weights.name), (share / whole).squeeze(0))
            for voice, share in zip(asked.guidance.voices, shares, strict=True)
            if bool((share > 0).any())
        ]


@dataclass(frozen=True, slots=True)
class _Look:
    """One row to ask again, and how much of the step it decided: a share, everywhere or place by place."""

    step: int
    rows: Rows
    share: Tensor


def _row(latents: Tensor, timestep: Tensor, voice: Voice, adapter: str) -> Rows:
    return Rows(latents, timestep, voice.prompt.embeds, adapter=adapter, pooled_embeds=voice.prompt.pooled)


def _together(looks: Sequence[_Look]) -> Rows:
    rows = [look.rows for look in looks]
    read = concatenate([row.conditioning for row in rows])
    return Rows(
        torch.cat([row.latents for row in rows]),
        torch.cat([row.timestep for row in rows]),
        read.embeds,
        adapter=rows[0].adapter,
        pooled_embeds=read.pooled,
    )


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


def _looked_at(asked: Sequence[Asked]) -> list[int]:
    """Choose the steps to look at: of a guided step's two rows one is asked, of others nearly all."""
    halves = all(isinstance(step.guidance, Guidance) and step.guidance.scale > 1 for step in asked)
    return list(range(0, len(asked), 3 if halves else 5))


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
