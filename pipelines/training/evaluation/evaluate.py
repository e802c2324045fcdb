"""Everything that is measured, in order, each figure beside the same one for real pictures."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, get_args

import torch
from accelerate import PartialState
from torch import nn

from pipelines.models.find import Companion, ModelFolder
from pipelines.models.load import load_model
from pipelines.training.autoencoder import measure_autoencoder
from pipelines.training.evaluation.dual_encoder import Finetuning, load_or_train_dual_encoder
from pipelines.training.evaluation.judge import (
    TOY_NETWORK,
    Judge,
    NetworkSize,
    Opinion,
    agreement,
    expected_agreement,
    judge_pictures,
    load_or_train_judge,
    style_probabilities,
)
from pipelines.training.evaluation.metrics import (
    frechet_distance,
    mean,
    mean_distance,
    nearer_than_rivals,
    nearest_distances,
    precision_recall,
    quantiles,
    ratio,
    share,
)
from pipelines.training.evaluation.mixing import measure_mixing
from pipelines.training.evaluation.network import held_out, learnt_from, thumbnails
from pipelines.training.evaluation.painting import Manner, Painter
from pipelines.training.evaluation.palette import labels_agree, palette_words
from pipelines.training.evaluation.prompts import (
    Prompts,
    Wanted,
    plan_agreement,
    plan_captions,
    plan_diversity,
    plan_pairs,
    plan_subjects,
)
from pipelines.training.evaluation.subjects import TOP, SubjectRanks, rank_real_pictures
from pipelines.training.laying import bank_with_things
from pipelines.training.pack import prepare_pack
from pipelines.training.pictures import PictureBank
from pipelines.training.sheets import save_sheet

Part = Literal[
    "autoencoder", "agreement", "companion", "captions", "frechet", "subjects", "pairs", "diversity", "mixing"
]
"""What can be measured by itself; `frechet` measures memorisation too."""

PARTS: tuple[Part, ...] = get_args(Part)

Figures = dict[str, float]
Results = dict[str, Figures]


@dataclass(frozen=True)
class Counts:
    """How much is painted and how long the judges are trained."""

    pictures: int = 2000
    prompts: int = 500
    subject_seeds: int = 4
    pair_seeds: int = 10
    diversity_seeds: int = 8
    mixed_prompts: int = 100
    mixed_seeds: int = 3
    judge_steps: int = 3000
    finetuning_steps: int = 600
    batch_size: int = 64


class Evaluation:
    """One model, the pack, and the judges that were trained on it."""

    def __init__(
        self,
        folder: ModelFolder,
        data: Path,
        output: Path,
        *,
        prompts: Prompts,
        counts: Counts,
        manner: Manner,
        classifier: Path | None = None,
        size: str = "v1",
        workers: int = 1,
        limit: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """Lay the pack out and train the judges, unless an earlier run has left them in `output`.

        With a `classifier` the dual encoder sees pictures through it, and teaches it.
        Raises FileNotFoundError where `data` holds no shard.
        """
        self.folder = folder
        self.data, self.output, self.limit = data, output, limit
        self.prompts, self.counts, self.manner, self.say = prompts, counts, manner, say
        self.device = torch.device(PartialState().device or "cpu")
        torch.set_float32_matmul_precision("high")
        prepare_pack(data, output / "pack", workers=workers, limit=limit)
        self.bank = PictureBank(output / "pack", self.device, seed=0)
        self.rows, self.real = held_out(self.bank)
        network = TOY_NETWORK if size == "toy" else NetworkSize()
        torch.manual_seed(0)
        self.judge: Judge = load_or_train_judge(
            self.bank, output / "judge.safetensors", size=network, steps=counts.judge_steps, say=say
        )
        self._network, self._classifier = network, classifier
        self.painter = Painter(folder, self.device, counts.batch_size)
        self.real_opinion = self._judge(self.real)

    @cached_property
    def subjects(self) -> SubjectRanks:
        """The dual encoder's ranks; it is trained when it is first asked, unless an earlier run left it."""
        # Seeded again, so that it is the same whether or not the judge was trained now.
        torch.manual_seed(1)
        self.bank.generator.manual_seed(1)
        steps = self.counts.finetuning_steps
        things = partial(bank_with_things, self.bank, self.data, self.output, seed=1, limit=self.limit)
        encoder, tokenizer = load_or_train_dual_encoder(
            self.bank,
            self.output,
            size=self._network,
            steps=self.counts.judge_steps,
            say=self.say,
            classifier=self._classifier,
            finetuning=Finetuning(steps, things) if steps else None,
        )
        return SubjectRanks(encoder, tokenizer, self.prompts.subjects.names, self.device)

    def run(self, parts: Collection[Part] = PARTS, caption_guidance: float | None = None) -> Results:
        """Measure some parts or all; `caption_guidance` is for the Fréchet distance, the manner's by default.

        A model without a companion has no part of that name.
        """
        companion = self.folder.companion
        measures: dict[Part, Callable[[], Results]] = {
            "autoencoder": lambda: {"autoencoder": self.measure_vae()},
            "agreement": self.measure_agreement,
            "companion": lambda: self.measure_companion(companion) if companion else {},
            "captions": lambda: {"held-out captions": self.measure_caption_agreement()},
            "frechet": lambda: self.measure_captions(caption_guidance),
            "subjects": lambda: {"subjects": self.measure_subjects()},
            "pairs": lambda: {"word pairs": self.measure_pairs()},
            "diversity": lambda: {"diversity": self.measure_diversity()},
            "mixing": lambda: {"mixing": self.measure_mixing()},
        }
        results: Results = {}
        for part in PARTS:
            if part in parts:
                results |= measures[part]()
        return results

    def measure_vae(self) -> Figures:
        """PSNR and SSIM of reconstructed held-out pictures, in float32."""
        vae = self.painter.vae
        dtype = vae.dtype
        figures = measure_autoencoder(nn.Module.to(vae, torch.float32), self.bank)
        nn.Module.to(vae, dtype)
        return figures

    def measure_agreement(self) -> Results:
        """Style, genre and palette: are they what the prompt asks for?"""
        results = self._agree("agreement", self.manner)
        results["palette"]["rule and pack labels, Jaccard"] = labels_agree(self.data, self.limit)
        return results

    def measure_companion(self, companion: Companion) -> Results:
        """The same of what the companion paints, in its own steps."""
        pace = companion.pace
        manner = Manner(pace.sampler, pace.num_inference_steps, pace.guidance_scale)
        told = self._agree("companion", manner)
        return {f"companion, {section}": figures for section, figures in told.items()}

    def _agree(self, name: str, manner: Manner) -> Results:
        wanted = plan_agreement(self.prompts.agreement, self.counts.prompts)
        images = self._paint(name, wanted, manner)
        opinion, real = self._judge(images), self.real_opinion
        styles, genres = [row.style for _, row in self.rows], [row.genre for _, row in self.rows]
        results = {
            "style": _agreement(opinion.styles, [one.style for one in wanted], real.styles, styles),
            "genre": _agreement(opinion.genres, [one.genre for one in wanted], real.genres, genres),
        }
        found = [
            colour in palette_words(image)
            for image, one in zip(images, wanted, strict=True)
            for colour in one.palette
        ]
        results["palette"] = {"colours found": share(found)}
        return results

    def measure_caption_agreement(self) -> Figures:
        """Style and genre of pictures painted from held-out captions, beside those of the very pictures.

        Unlike the list of prompts these ask for nothing that the pack never shows.
        """
        count = self.counts.prompts
        images = self._paint("caption-agreement", plan_captions(self.rows, count))
        opinion, real = self._judge(images), self.real_opinion
        rows = [self.rows[index % len(self.rows)][1] for index in range(count)]
        seen_styles = [real.styles[index % len(self.rows)] for index in range(count)]
        seen_genres = [real.genres[index % len(self.rows)] for index in range(count)]
        styles, genres = [row.style for row in rows], [row.genre for row in rows]
        style, own_style = agreement(opinion.styles, styles), agreement(seen_styles, styles)
        genre, own_genre = agreement(opinion.genres, genres), agreement(seen_genres, genres)
        return {
            "style": style,
            "style, judge on the very pictures": own_style,
            "style, ratio": ratio(style, own_style),
            "genre": genre,
            "genre, judge on the very pictures": own_genre,
            "genre, ratio": ratio(genre, own_genre),
        }

    def measure_captions(self, guidance: float | None) -> Results:
        """Pictures painted from held-out captions beside the held-out pictures, and beside training ones."""
        wanted = plan_captions(self.rows, self.counts.pictures)
        manner = self.manner
        if guidance is not None:
            manner = replace(manner, guidance_scale=guidance)
        images = self._paint("captions", wanted, manner)
        made, real = self._judge(images).features, self.real_opinion.features
        half = len(real) // 2
        shuffled = torch.tensor(random.Random(0).sample(range(len(real)), len(real)), device=self.device)
        first, second = real[shuffled[:half]], real[shuffled[half : 2 * half]]
        precision, recall = precision_recall(real, made)
        half_precision, half_recall = precision_recall(first, second)
        between, halves = frechet_distance(made, real), frechet_distance(first, second)
        alike = frechet_distance(made[:half], first)
        distance: Figures = {
            "guidance": manner.guidance_scale,
            "generated and real": between,
            "two halves of the real": halves,
            "ratio": ratio(between, halves),
            "as many generated as a half, and a half": alike,
            "ratio at equal counts": ratio(alike, halves),
            "precision": precision,
            "recall": recall,
            "precision of real halves": half_precision,
            "recall of real halves": half_recall,
        }
        return {"frechet": distance, "memorisation": self._nearest(images, made)}

    def _nearest(self, images: Sequence[torch.Tensor], made: torch.Tensor) -> Figures:
        """Distances to the nearest training picture, of generated and of held-out pictures.

        In the judge's features, and as the root mean square difference of thumbnails in [-1, 1].
        """
        training = learnt_from(self.bank)
        known, small_known = self._judge(training).features, thumbnails(training, self.device)
        figures: Figures = {}
        for whose, features, pictures in (
            ("generated", made, images),
            ("real", self.real_opinion.features, self.real),
        ):
            small = thumbnails(pictures, self.device)
            # Training saw mirror images too.
            straight, mirrored = (
                nearest_distances(one.flatten(1), small_known.flatten(1)) for one in (small, small.flip(-1))
            )
            rms = torch.minimum(straight, mirrored) / small_known[0].numel() ** 0.5
            for space, distances in (
                ("features", nearest_distances(features, known)),
                ("thumbnails", rms),
            ):
                figures |= {f"{space}, {whose}, {k}": v for k, v in quantiles(distances).items()}
        for space in ("features", "thumbnails"):
            for level in ("median", "percentile_5"):
                made_at, real_at = (figures[f"{space}, {whose}, {level}"] for whose in ("generated", "real"))
                figures[f"{space}, {level}, generated over real"] = ratio(made_at, real_at)
        return figures

    def measure_subjects(self) -> Figures:
        """How often the right one of all subjects is among the likeliest `TOP`."""
        wanted = plan_subjects(self.prompts.subjects, self.counts.subject_seeds)
        images = self._paint("subjects", wanted)
        ranks = self.subjects.ranks(images, [w.subject for w in wanted], [w.style for w in wanted])
        painted, rendered = (ranks < TOP).float().chunk(2)
        return {
            "painted, in top 5": float(painted.mean()),
            "3d render, in top 5": float(rendered.mean()),
            **rank_real_pictures(self.subjects, self.bank, self.prompts.subjects.painted_styles),
            "by chance": TOP / len(self.prompts.subjects.names),
        }

    def measure_pairs(self) -> Figures:
        """How often a new word's picture is nearer to its known word's than to another's, painted alike."""
        pairs, seeds = self.prompts.pairs.words, self.counts.pair_seeds
        features = self._judge(self._paint("pairs", plan_pairs(self.prompts.pairs, seeds))).features
        new, known, elsewhere = features.unflatten(0, (len(pairs), 3, seeds)).unbind(1)
        manners = torch.arange(seeds, device=features.device) % len(self.prompts.pairs.styles)
        # Of other seeds the mean in the picture's own style, since one picture says little of its word.
        centres = torch.stack([elsewhere[:, manners == one].mean(1) for one in manners], dim=1)
        captions = {
            word
            for rows in self.bank.rows.values()
            for row in rows
            for caption in row.captions
            for word in re.findall(r"[a-z]+", caption)
        }
        unseen = torch.tensor([word not in captions for word, _ in pairs], device=features.device)
        same = nearer_than_rivals(new, known, seed=0)
        return {
            "nearer to their own": float(same.float().mean()),
            "trials": len(pairs) * seeds,
            "words in no caption": int(unseen.sum()),
            "nearer to their own, of those": float(same[unseen].float().mean()),
            "nearer to the mean of their own from other seeds": float(
                nearer_than_rivals(new, centres, seed=0).float().mean()
            ),
        }

    def measure_diversity(self) -> Figures:
        """How far apart pictures of one prompt are, beside real pictures of one style."""
        seeds = self.counts.diversity_seeds
        wanted = plan_diversity(self.prompts.diversity, seeds)
        features = self._judge(self._paint("diversity", wanted)).features
        made = mean([mean_distance(part) for part in features.split(seeds)])
        real = self.real_opinion.features
        styles = [row.style for _, row in self.rows]
        by_style = [
            mean_distance(real[[index for index, one in enumerate(styles) if one == style]])
            for style in sorted(set(styles))
            if styles.count(style) > 1
        ]
        return {
            "one prompt, many seeds": made,
            "real pictures of one style": mean(by_style),
            "ratio": ratio(made, mean(by_style)),
        }

    def measure_mixing(self) -> Figures:
        """Does a style's probability rise with its weight, in each way of mixing; is it in its region?"""
        agreement = self.prompts.agreement
        return measure_mixing(
            load_model(self.folder),
            partial(style_probabilities, self.judge, device=self.device),
            self.judge.styles,
            self.manner,
            scenes=[scene.text for scene in agreement.scenes],
            styles=[style for style in agreement.styles if style in self.judge.styles],
            prompts=self.counts.mixed_prompts,
            seeds=self.counts.mixed_seeds,
            at_once=self.counts.batch_size,
            say=self.say,
        )

    def _judge(self, images: Sequence[torch.Tensor]) -> Opinion:
        return judge_pictures(self.judge, images, self.device)

    def _paint(self, name: str, wanted: Sequence[Wanted], manner: Manner | None = None) -> list[torch.Tensor]:
        """Paint, and leave the first squares in a sheet for people to look at."""
        self.say(f"painting {len(wanted)} pictures for {name}")
        images = self.painter.paint(wanted, manner or self.manner, self.say)
        squares = [image for image in images if image.shape[0] == image.shape[1]][:32]
        save_sheet(
            self.output / "sheets" / f"evaluation-{name}.png",
            [torch.stack(squares[start : start + 8]) for start in range(0, len(squares), 8)],
        )
        return images


def _agreement(
    judged: Sequence[str], asked: Sequence[str], judged_real: Sequence[str], truth: Sequence[str]
) -> Figures:
    """How often the judge sees what was asked for, beside how often it is right about real pictures."""
    painted, own = agreement(judged, asked), agreement(judged_real, truth)
    mixed = expected_agreement(judged_real, truth, asked)
    return {
        "agreement": painted,
        "judge on real pictures": own,
        "ratio": ratio(painted, own),
        "judge on real pictures, mixed as the prompts": mixed,
        "ratio, mixed as the prompts": ratio(painted, mixed),
    }
