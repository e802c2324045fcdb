"""The embedded model's parts, built from one frozen description of their sizes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
TERMINAL_BETA = 0.02
"""With `beta_start` 0.00085 over 1000 scaled-linear steps this leaves alpha_bar = 2e-4 at the last.

That is near enough to zero for pure noise to be a fair start, and, unlike zero-terminal-SNR betas, every
sampler follows it: Heun, PNDM, DEIS and KDPM2 have no option for those.
"""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the autoencoder, the U-Net and the text encoder; latents are an eighth of the picture.

    The first `coarse_channels` of the latents hold what a picture is, the others how it looks from near.
    """

    latent_channels: int = 16
    coarse_channels: int = 4
    vae_channels: tuple[int, ...] = (48, 96, 192, 192)
    vae_groups: int = 16
    unet_channels: tuple[int, ...] = (128, 192, 256)
    unet_heads: tuple[int, ...] = (2, 3, 4)
    unet_groups: int = 32
    unet_layers_per_block: int = 2
    text_width: int = 256
    text_layers: int = 4
    text_heads: int = 4
    max_tokens: int = 64
    vocabulary: int = 11000


ATELIER_V1 = Architecture()
"""The embedded model.

Its U-Net's widths are multiples of 64 and its heads 64 wide, as a GPU's matrix units want them, and more of
its weights sit where the picture is small, so that they cost a CPU little: 6.9 GFLOP a picture and step,
where (160, 224, 224) with as many weights takes 9.0.
"""

TOY = Architecture(
    latent_channels=8,
    vae_channels=(8, 8, 16, 16),
    vae_groups=4,
    unet_channels=(16, 32, 32),
    unet_heads=(2, 2, 2),
    unet_groups=8,
    unet_layers_per_block=1,
    text_width=32,
    text_layers=1,
    text_heads=2,
    max_tokens=32,
    vocabulary=700,
)
"""A model that trains in seconds on a CPU and paints nothing: for tests."""


def build_autoencoder(architecture: Architecture) -> AutoencoderKL:
    """A convolutional variational autoencoder, f8, without attention; random weights."""
    channels = architecture.vae_channels
    # As keywords in a dictionary, since diffusers annotates these as tuples of one.
    blocks: dict[str, Any] = {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
    }
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=architecture.latent_channels,
        layers_per_block=1,
        norm_num_groups=architecture.vae_groups,
        mid_block_add_attention=False,
        sample_size=192,
        scaling_factor=1.0,
        **blocks,
    )


def build_unet(architecture: Architecture) -> UNet2DConditionModel:
    """A text-conditioned U-Net without attention at the top resolution; random weights.

    What a prompt says as a whole (a style, a light) also goes in beside the timestep, pooled, and so scales
    and shifts every block (Saharia et al., 2022); diffusers calls that an addition embedding of text.
    """
    deeper = len(architecture.unet_channels) - 1
    blocks: dict[str, Any] = {
        "block_out_channels": architecture.unet_channels,
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * deeper,
        "up_block_types": ("CrossAttnUpBlock2D",) * deeper + ("UpBlock2D",),
        # In these blocks diffusers reads attention_head_dim as the number of heads.
        "attention_head_dim": architecture.unet_heads,
        "addition_embed_type_num_heads": architecture.text_heads,
    }
    return UNet2DConditionModel(
        sample_size=24,
        in_channels=architecture.latent_channels,
        out_channels=architecture.latent_channels,
        layers_per_block=architecture.unet_layers_per_block,
        norm_num_groups=architecture.unet_groups,
        cross_attention_dim=architecture.text_width,
        addition_embed_type="text",
        resnet_time_scale_shift="scale_shift",
        **blocks,
    )


def build_text_encoder(architecture: Architecture, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A small CLIP text transformer over the tokenizer's vocabulary; random weights."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=architecture.text_width,
            intermediate_size=4 * architecture.text_width,
            num_hidden_layers=architecture.text_layers,
            num_attention_heads=architecture.text_heads,
            max_position_embeddings=architecture.max_tokens,
            projection_dim=architecture.text_width,
            hidden_act="gelu",
            bos_token_id=vocabulary[START],
            eos_token_id=vocabulary[END],
            pad_token_id=vocabulary[END],
        )
    )


def build_scheduler() -> DPMSolverMultistepScheduler:
    """The noise schedule, as the config of the default sampler (DPM++ 2M); others take it over.

    `clip_sample`, `set_alpha_to_one` and `skip_prk_steps` mean nothing to DPM++: they are there for DDIM and
    PNDM, whose own defaults do not suit latents. `steps_offset` has no effect with trailing timesteps; 1 is
    what Stable Diffusion pipelines want to see.
    """
    scheduler = DPMSolverMultistepScheduler.from_config(
        {
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": TERMINAL_BETA,
            "beta_schedule": "scaled_linear",
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
            "steps_offset": 1,
            "algorithm_type": "dpmsolver++",
            "solver_order": 2,
            "clip_sample": False,
            "set_alpha_to_one": True,
            "skip_prk_steps": True,
        }
    )
    assert isinstance(scheduler, DPMSolverMultistepScheduler)
    return scheduler


def train_tokenizer(captions: Iterable[str], architecture: Architecture) -> CLIPTokenizer:
    """Learn a byte-pair vocabulary from captions (Sennrich et al., 2016), in CLIP's own form."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    plain = CLIPTokenizer()
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = plain.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=architecture.vocabulary - len(alphabet),
        min_frequency=2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    learned = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    # Every byte, alone and at a word's end, so that no letter is unknown, whatever an artist types.
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += [token for token, _ in learned if token not in set(tokens)]
    tokens += [START, END]
    merges: Any = _merges(learner)  # pairs, although transformers' annotation says strings
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        model_max_length=architecture.max_tokens,
    )


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load a tokenizer that `train_tokenizer` made and `save_pretrained` wrote."""
    return CLIPTokenizer.from_pretrained(str(folder))


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]
