"""Every picture of the pack as latents, and every caption as token ids: what the U-Net is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from pipelines.training.architecture import Architecture, load_tokenizer, train_tokenizer
from pipelines.training.autoencoder import decode, encode, load_autoencoder
from pipelines.training.loop import place
from pipelines.training.pack import Format, Row
from pipelines.training.pictures import PictureBank, to_pixels


@dataclass(frozen=True)
class LatentBank:
    """Every picture's latents, plain and mirrored, and its captions' token ids, format by format.

    `latents[format]` is (N, 2, C, h, w), scaled to unit deviation; `input_ids[format]` is (N, captions, T).
    """

    latents: dict[Format, torch.Tensor]
    input_ids: dict[Format, torch.Tensor]
    empty_ids: torch.Tensor

    def draw(self, bank: PictureBank, step: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a batch of one format: latents (count, C, h, w), half of them mirrored, and ids (count, T)."""
        shape = bank.choose_format(step)
        return self.take(bank, shape, bank.draw_rows(shape, count))

    def take(self, bank: PictureBank, shape: Format, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take rows (count,) of one format, as `draw` does."""
        ids = self.input_ids[shape]
        chosen = ids[rows, bank.draw_integers(ids.shape[1], len(rows))]
        return self.latents[shape][rows, bank.draw_integers(2, len(rows))].float(), chosen.long()


def load_frozen_autoencoder(output: Path, device: torch.device) -> AutoencoderKL:
    """The finished autoencoder of a run, frozen."""
    return place(load_autoencoder(output / "vae").eval().requires_grad_(False), device)


def decode_latents(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Pixels (B, 3, H, W) of latents scaled as a `LatentBank` has them; bfloat16 on a GPU, with gradients."""
    with torch.autocast(latents.device.type, torch.bfloat16, enabled=latents.is_cuda):
        return decode(vae, latents / float(vae.config["scaling_factor"])).float()


def encode_bank(
    accelerator: Accelerator, bank: PictureBank, vae: AutoencoderKL
) -> dict[Format, torch.Tensor]:
    """Encode all pictures and their mirror images once; the processes share the work."""
    encoded: dict[Format, torch.Tensor] = {}
    on_gpu = accelerator.device.type == "cuda"
    batch = 256 if on_gpu else 8
    for shape, images in bank.pixels.items():
        mine = torch.arange(accelerator.process_index, len(images), accelerator.num_processes)
        # Every process gathers the same number of rows: the last ones may be encoded twice.
        longest = -(-len(images) // accelerator.num_processes)
        mine = torch.cat([mine, mine[: longest - len(mine)]])
        parts: list[torch.Tensor] = []
        for rows in mine.to(bank.device).split(batch):
            pixels = to_pixels(images[rows])
            both = torch.cat([pixels, pixels.flip(-1)])
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=on_gpu):
                latents = encode(vae, both).float() * float(vae.config["scaling_factor"])
            parts.append(torch.stack(latents.chunk(2), dim=1).to(torch.float16))
        gathered = accelerator.gather(torch.cat(parts))
        assert isinstance(gathered, torch.Tensor)
        # Process p holds rows p, p + P, p + 2P, …: interleave them again.
        by_process = gathered.unflatten(0, (accelerator.num_processes, longest))
        encoded[shape] = by_process.transpose(0, 1).flatten(0, 1)[: len(images)].contiguous()
    return encoded


def tokenize_rows(tokenizer: CLIPTokenizer, rows: list[Row]) -> torch.Tensor:
    """Token ids (N, captions, T) of every row's captions, int16, padded as the pipelines pad."""
    captions = sorted({caption for row in rows for caption in row.captions})
    index = {caption: number for number, caption in enumerate(captions)}
    ids = tokenize(tokenizer, captions)
    numbers = np.array([[index[caption] for caption in row.captions] for row in rows])
    return ids[torch.from_numpy(numbers)]


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids (N, T) int16: start, words, end, and the padding token to the full length."""
    length = tokenizer.model_max_length
    padding = int(str(tokenizer.pad_token_id))
    ids = np.full((len(captions), length), padding, dtype=np.int16)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    for row, encoding in enumerate(backend.encode_batch(captions)):
        tokens = encoding.ids
        if len(tokens) > length:
            tokens = [*tokens[: length - 1], tokens[-1]]
        ids[row, : len(tokens)] = tokens
    return torch.from_numpy(ids)


def prepare_tokenizer(
    accelerator: Accelerator, bank: PictureBank, output: Path, architecture: Architecture
) -> CLIPTokenizer:
    """Learn the vocabulary from the training captions, once, into `output/tokenizer`."""
    folder = output / "tokenizer"
    if accelerator.is_main_process and not folder.exists():
        captions = [
            caption
            for rows in bank.rows.values()
            for row in rows
            if not row.validation
            for caption in row.captions[:6]
        ]
        train_tokenizer(captions, architecture).save_pretrained(str(folder))
    accelerator.wait_for_everyone()
    return load_tokenizer(folder)


def load_latent_bank(
    accelerator: Accelerator, bank: PictureBank, vae: AutoencoderKL, tokenizer: CLIPTokenizer
) -> LatentBank:
    """Encode pictures and captions of the whole pack."""
    latents = encode_bank(accelerator, bank, vae)
    ids = {shape: tokenize_rows(tokenizer, rows).to(bank.device) for shape, rows in bank.rows.items()}
    return LatentBank(latents, ids, tokenize(tokenizer, [""])[0].to(bank.device))
