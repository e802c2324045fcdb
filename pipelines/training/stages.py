"""The stages of one training run, tied together: what the command line calls."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator

from pipelines.training.architecture import (
    ATELIER_V1,
    TOY,
    Architecture,
    build_text_encoder,
    build_unet,
    load_tokenizer,
)
from pipelines.training.autoencoder import AutoencoderTraining, keep_latents, train_autoencoder
from pipelines.training.clock import Budget
from pipelines.training.commissions import Classifier
from pipelines.training.compiling import CompileFor
from pipelines.training.diffusion import DiffusionTraining, NoisePrediction, train_diffusion
from pipelines.training.distillation import DistillationTraining, distill
from pipelines.training.distributed import see_one_gpu
from pipelines.training.emphasis import EmphasisTraining, train_emphasis
from pipelines.training.export import assemble_pipeline, export_model
from pipelines.training.latent_bank import load_frozen_autoencoder
from pipelines.training.pack import load_rows, prepare_pack
from pipelines.training.pictures import PictureBank
from pipelines.training.ranking import Critics, Wish
from pipelines.training.reward import RewardTraining, train_reward
from pipelines.training.saying import Lesson
from pipelines.training.style_classifier import ClassifierTraining, train_style_classifier
from pipelines.training.text_encoder import TextTraining, train_text_encoder
from pipelines.training.toys import (
    TOY_AUTOENCODER,
    TOY_CLASSIFIER,
    TOY_DIFFUSION,
    TOY_DISTILLATION,
    TOY_EMPHASIS,
    TOY_REWARD,
    TOY_TEXT,
)
from pipelines.training.verdicts import Weights
from pipelines.training.wordnet import WordNet

Training = TypeVar(
    "Training",
    AutoencoderTraining,
    TextTraining,
    DiffusionTraining,
    RewardTraining,
    DistillationTraining,
    ClassifierTraining,
    EmphasisTraining,
)

ARCHITECTURES = {"v1": ATELIER_V1, "toy": TOY}


@dataclass
class Run:
    """A training run on this machine: its processes, its pictures and its output folder."""

    accelerator: Accelerator
    output: Path
    prepared: Path
    architecture: Architecture
    autoencoder_training: AutoencoderTraining
    diffusion_training: DiffusionTraining
    distillation_training: DistillationTraining
    classifier_training: ClassifierTraining
    text_training: TextTraining
    reward_training: RewardTraining
    emphasis_training: EmphasisTraining
    resume: bool
    own: tuple[Path, ...] = ()
    started_s: float = field(default_factory=time.monotonic)

    @classmethod
    def start(
        cls,
        data: Path,
        output: Path,
        *,
        size: str = "v1",
        resume: bool = False,
        workers: int = 1,
        limit: int | None = None,
        compiled: bool = False,
        compile_for: CompileFor = "blocks",
        own: Path | None = None,
    ) -> Run:
        """Join the other processes and lay the pack out, once; `size` is one of `ARCHITECTURES`.

        `own` is a folder with `train rank`'s in it: the U-Net is trained on those pictures too.
        Raises FileNotFoundError where `data` holds no shard.
        """
        started_s = time.monotonic()
        see_one_gpu()
        accelerator = Accelerator()
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True  # a handful of shapes, each used thousands of times
        prepared = output / "pack"
        with accelerator.main_process_first():
            prepare_pack(data, prepared, workers=workers, limit=limit)
        toy = size == "toy"
        return cls(
            accelerator=accelerator,
            output=output,
            prepared=prepared,
            resume=resume,
            own=() if own is None else tuple(sorted(path for path in own.iterdir() if path.is_dir())),
            started_s=started_s,
            architecture=ARCHITECTURES[size],
            autoencoder_training=replace(TOY_AUTOENCODER if toy else AutoencoderTraining(), compile=compiled),
            diffusion_training=replace(
                TOY_DIFFUSION if toy else DiffusionTraining(), compile=compiled, compile_for=compile_for
            ),
            distillation_training=TOY_DISTILLATION if toy else DistillationTraining(),
            classifier_training=TOY_CLASSIFIER if toy else ClassifierTraining(),
            text_training=TOY_TEXT if toy else TextTraining(),
            reward_training=TOY_REWARD if toy else RewardTraining(),
            emphasis_training=TOY_EMPHASIS if toy else EmphasisTraining(),
        )

    @property
    def has_autoencoder(self) -> bool:
        """Whether the autoencoder is finished."""
        return (self.output / "vae" / "config.json").exists()

    @property
    def elapsed_minutes(self) -> float:
        """Minutes since this run started, preparation included."""
        return (time.monotonic() - self.started_s) / 60

    def autoencoder(
        self,
        *,
        minutes: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
        initial: Path | None = None,
        anchored: bool = False,
    ) -> None:
        """Train the autoencoder into `output/vae`, from `initial`'s weights where given.

        `anchored` keeps its latents near where `initial` has them, so that a U-Net made for those still fits.
        """
        training = self.autoencoder_training
        if anchored:
            training = keep_latents(training)
        train_autoencoder(
            self.accelerator,
            PictureBank(self.prepared, self.accelerator.device, seed=self._seed),
            self.output,
            architecture=self.architecture,
            training=_with(training, batch_size=batch_size),
            budget=Budget(minutes, max_steps),
            resume=self.resume,
            initial=initial,
        )
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()

    def text_encoder(
        self,
        *,
        words: Path,
        wordnet: Path,
        sentence_encoder: Path,
        minutes: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Train the vocabulary and the text encoder into `output`.

        `words` lists English words; those that a picture can show are read, and `wordnet` tells which.
        """
        training, net = self.text_training, WordNet.read(wordnet)
        listed = dict.fromkeys(words.read_text(encoding="utf-8").split())
        train_text_encoder(
            self.accelerator,
            [row for rows in load_rows(self.prepared).values() for row in rows],
            self.output,
            words=[word for word in listed if re.fullmatch("[a-z]{3,}", word) and net.is_seen(word)],
            sentence_encoder=sentence_encoder,
            architecture=self.architecture,
            training=_with(training, batch_size=batch_size),
            budget=Budget(minutes, max_steps),
            resume=self.resume,
        )

    def take_over(self, initial: Path) -> None:
        """Start from a model folder: all but its U-Net is kept as it is."""
        if self.accelerator.is_main_process:
            for part in ("vae", "tokenizer", "text_encoder"):
                if not (self.output / part).exists():
                    shutil.copytree(initial / part, self.output / part)
        self.accelerator.wait_for_everyone()

    def diffusion(
        self,
        *,
        minutes: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        snr_floor: float | None = None,
        initial: Path | None = None,
        rendered_share: float | None = None,
    ) -> None:
        """Train the U-Net into `output/model`; `initial`'s weights and the share of renders are as given."""
        train_diffusion(
            self.accelerator,
            self._bank(rendered_share),
            self.output,
            architecture=self.architecture,
            training=_with(
                self.diffusion_training,
                batch_size=batch_size,
                learning_rate=learning_rate,
                snr_floor=snr_floor,
            ),
            budget=Budget(minutes, max_steps),
            resume=self.resume,
            initial=initial,
        )

    def reward(
        self,
        model: Path,
        critics: Critics,
        classifier: Classifier,
        words: Sequence[str],
        wishes: Sequence[Wish],
        *,
        weights: Weights,
        minutes: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
        weight: float | None = None,
        learning_rate: float | None = None,
        rendered_share: float | None = None,
    ) -> None:
        """Tune a finished model folder's U-Net to please critics, into `output/model`."""
        train_reward(
            self.accelerator,
            self._bank(rendered_share),
            self.output,
            model,
            critics,
            classifier,
            words,
            wishes,
            training=_with(
                replace(self.reward_training, weights=weights),
                batch_size=batch_size,
                reward=weight,
                learning_rate=learning_rate,
            ),
            budget=Budget(minutes, max_steps),
            resume=self.resume,
        )

    def distill(
        self,
        model: Path,
        *,
        guidance_scale: float,
        initial: Path | None = None,
        judge: Path | None = None,
        minutes: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Distil a finished model folder into its four-step companion, `output/lcm`; `judge` looks on.

        The companion of `initial` is trained on, where given.
        """
        distill(
            self.accelerator,
            self._bank(),
            self.output,
            model,
            training=_with(self.distillation_training, batch_size=batch_size, guidance_scale=guidance_scale),
            budget=Budget(minutes, max_steps),
            initial=initial,
            judge=judge,
            resume=self.resume,
        )

    def style_classifier(
        self,
        model: Path,
        *,
        minutes: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
        most_per_style: int | None = None,
    ) -> dict[int, float]:
        """Train the classifier that steers a finished model, into `output`; return its accuracy."""
        return train_style_classifier(
            self.accelerator,
            self.prepared,
            self.output,
            model,
            training=_with(self.classifier_training, batch_size=batch_size),
            budget=Budget(minutes, max_steps),
            most_per_style=most_per_style,
            resume=self.resume,
        )

    def emphasise(
        self,
        model: Path,
        lesson: Lesson,
        *,
        share: float | None = None,
        minutes: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Teach a finished model folder's text encoder to read words louder, into `output/model`."""
        train_emphasis(
            self.accelerator,
            lesson,
            self.output,
            model,
            training=_with(self.emphasis_training, batch_size=batch_size, share=share),
            budget=Budget(minutes, max_steps),
            resume=self.resume,
        )

    @property
    def _seed(self) -> int:
        return 1 + self.accelerator.process_index

    def _bank(self, rendered_share: float | None = None) -> PictureBank:
        device = self.accelerator.device
        return PictureBank(
            self.prepared, device, seed=self._seed, own=self.own, rendered_share=rendered_share
        )


def _with(training: Training, **changes: float | None) -> Training:
    """The same training with those fields changed that are given."""
    return replace(training, **{name: value for name, value in changes.items() if value is not None})


def export_checkpoint(output: Path, model: Path, *, size: str = "v1") -> int:
    """Write the last checkpoint's averaged weights as a model folder; return its size in bytes.

    Raises FileNotFoundError where `output` holds no checkpoint of the U-Net, and ValueError where the
    checkpoint is of another size.
    """
    architecture = ARCHITECTURES[size]
    checkpoint = output / "diffusion.pt"
    if not checkpoint.exists():
        raise FileNotFoundError(f"no diffusion.pt in {output}: --output is the folder that training wrote")
    tokenizer = load_tokenizer(output / "tokenizer")
    averaged = NoisePrediction(
        build_text_encoder(architecture, tokenizer), build_unet(architecture), autocast=False
    )
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    try:
        averaged.load_state_dict(state["averaged"]["model"])
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} was not trained with --size {size}") from error
    vae = load_frozen_autoencoder(output, torch.device("cpu"))
    return export_model(assemble_pipeline(vae, averaged.text_encoder, tokenizer, averaged.unet), model)
