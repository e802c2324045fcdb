"""Every stage in toy size: a few pictures a step and a line in the log for each, for tests."""

from __future__ import annotations

from pipelines.training.autoencoder import AutoencoderTraining
from pipelines.training.commissions import CrowdTaste
from pipelines.training.diffusion import DiffusionTraining
from pipelines.training.distillation import DistillationTraining
from pipelines.training.emphasis import EmphasisTraining
from pipelines.training.reward import RewardTraining
from pipelines.training.style_classifier import ClassifierTraining
from pipelines.training.text_encoder import TextTraining

TOY_AUTOENCODER = AutoencoderTraining(
    batch_size=4, crop_px=64, adversary_from=0.5, log_every=1, learning_rate=2e-3
)
TOY_DIFFUSION = DiffusionTraining(
    batch_size=4, log_every=1, warmup_steps=2, sheet_steps=2, sheet_prompts=("seascape, romanticism",)
)
TOY_DISTILLATION = DistillationTraining(
    batch_size=4,
    log_every=1,
    warmup_steps=2,
    rank=4,
    sheet_steps=2,
    sheet_prompts=TOY_DIFFUSION.sheet_prompts,
)

TOY_TEXT = TextTraining(batch_size=8, captions=20, log_every=1, warmup_steps=2)

TOY_CLASSIFIER = ClassifierTraining(batch_size=4, log_every=1, warmup_steps=2)

TOY_EMPHASIS = EmphasisTraining(batch_size=2, path_steps=2, log_every=1, warmup_steps=2)

TOY_REWARD = RewardTraining(
    batch_size=2,
    path_steps=2,
    traced=1,
    warmup_steps=2,
    decoded_at_once=1,
    crowd=CrowdTaste(width=2, judged_width=2),
    crowd_every=2,
    pack=TOY_DIFFUSION,
    log_every=1,
    sheet_steps=2,
    sheet_prompts=TOY_DIFFUSION.sheet_prompts,
)
