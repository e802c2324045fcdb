"""What a U-Net is asked to paint while it is tuned, and by whom that is judged.

Wishes are judged one by one; the pack's own captions are painted as a crowd, held against the pack's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import CLIPTokenizer

from pipelines.training.crowds import Crowd, Neighbourhood
from pipelines.training.evaluation.judge import Judge
from pipelines.training.evaluation.network import held_out, learnt_from, look, look_at_pixels
from pipelines.training.grain import Grain
from pipelines.training.latent_bank import LatentBank, tokenize
from pipelines.training.pack import Format
from pipelines.training.pictures import PictureBank
from pipelines.training.ranking import Critics, Wish
from pipelines.training.seeing import ask, classify
from pipelines.training.verdicts import Weights, ask_critics, displeasure

Judged = Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]
"""Pixels (B, 3, H, W) and the numbers (B,) of what was asked for, to the parts of a loss, scalars."""

Classifier = Callable[[torch.Tensor], torch.Tensor]
"""What `load_classifier` gives: pixels of the size that `classify` brings them to, to answers (B, K)."""


@dataclass(frozen=True)
class Commission:
    """Pictures that can be asked for, the guidance they are painted with, from and to, and their judge.

    `ids[format]` (N, captions, T) are their captions, `numbers[format]` (N,) what the judge knows them by.
    """

    ids: dict[Format, torch.Tensor]
    numbers: dict[Format, torch.Tensor]
    guidance: tuple[float, float]
    judge: Judged

    def draw(
        self, step: int, count: int, generator: torch.Generator
    ) -> tuple[Format, torch.Tensor, torch.Tensor]:
        """A format, which is the same in every process, and `count` captions (B, T) with their numbers."""
        shapes, counts = list(self.numbers), [len(numbers) for numbers in self.numbers.values()]
        shape = random.Random(step).choices(shapes, counts)[0]
        ids, numbers = self.ids[shape], self.numbers[shape]

        def integers(end: int) -> torch.Tensor:
            return torch.randint(end, (count,), device=ids.device, generator=generator)

        rows = integers(len(ids))
        return shape, ids[rows, integers(ids.shape[1])].long(), numbers[rows]


@dataclass(frozen=True)
class CrowdTaste:
    """How a crowd is painted and compared.

    Painted with a guidance drawn from `guidance`, it is held against `pictures` of the pack's, in `width`
    components of an ImageNet classifier's answers and in `judged_width` of the judge's features, each of
    which counts `weight`. `nearness` is what being nearer to the pack's than held-out pictures are counts.
    """

    weight: float = 0.25
    nearness: float = 12.0
    guidance: tuple[float, float] = (1.5, 3.5)
    width: int = 64
    judged_width: int = 32
    decay: float = 0.95
    pictures: int = 8192


def commission_wishes(
    critics: Critics,
    grain: Grain,
    words: Sequence[str],
    wishes: Sequence[Wish],
    tokenizer: CLIPTokenizer,
    *,
    guidance: tuple[float, float],
    weights: Weights,
    generator: torch.Generator,
) -> Commission:
    """Wishes, each judged by itself; `words` are the subjects told apart, `tokenizer` is the model's own.

    Of detail finer than life all of a batch are guilty together.
    """
    asked, device = ask_critics(critics, words, wishes), critics.device
    ids = tokenize(tokenizer, [wish.caption for wish in wishes]).to(device)
    numbers = {
        shape: torch.tensor([row for row, wish in enumerate(wishes) if wish.shape == shape], device=device)
        for shape in {wish.shape: None for wish in wishes}
    }

    def judge(pixels: torch.Tensor, numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        one = asked.take(numbers)
        told = displeasure(critics, pixels, one, weights, generator)
        return {**told, "grain": weights.grain * grain.excess(pixels, one.styles)}

    by_shape = {shape: ids[rows, None] for shape, rows in numbers.items()}
    return Commission(by_shape, numbers, guidance, judge)


def commission_crowd(
    judge: Judge, classifier: Classifier, bank: PictureBank, encoded: LatentBank, taste: CrowdTaste
) -> Commission:
    """The pack's own captions, every picture as often, judged as a crowd; needs the bank's pixels."""
    pictures = learnt_from(bank)
    some = random.Random(0).sample(range(len(pictures)), min(taste.pictures, len(pictures)))
    answers = ask(classifier, [pictures[number] for number in some], bank.device)
    seen = Crowd(answers, taste.width, taste.decay)
    features = judge.features.out_features
    known, unknown = (look(judge, ones, bank.device)[:, :features] for ones in (pictures, held_out(bank)[1]))
    judged = Crowd(known[some], taste.judged_width, taste.decay)
    neighbourhood = Neighbourhood(known, unknown)
    numbers = {shape: torch.tensor(rows, device=bank.device) for shape, rows in bank.training.items()}

    def tell(pixels: torch.Tensor, _: torch.Tensor) -> dict[str, torch.Tensor]:
        looked = look_at_pixels(judge, pixels)[:, :features]
        return {
            "crowd": taste.weight * seen.distance(classify(classifier, pixels)),
            "judged_crowd": taste.weight * judged.distance(looked),
            "nearness": taste.nearness * neighbourhood.nearness(looked),
        }

    ids = {shape: encoded.input_ids[shape][rows] for shape, rows in numbers.items()}
    return Commission(ids, numbers, taste.guidance, tell)
