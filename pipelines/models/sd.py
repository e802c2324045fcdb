"""Stable Diffusion 1.x and 2.x folders, the embedded model among them: encode, predict, decode."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from pipelines.conditioning import Conditioning
from pipelines.denoising import Rows
from pipelines.models.adapters import Adapters
from pipelines.models.find import ModelFolder
from pipelines.models.ip_adapter import IPAdapters
from pipelines.models.place import Placement
from pipelines.models.remembering import remembered
from pipelines.models.words import teach
from pipelines.style_classifier import StyleClassifier, load_style_classifier
from pipelines.weighing import weigh

if TYPE_CHECKING:
    from pipelines.models.cuda_graphs import CudaGraphs
    from pipelines.models.openvino_cpu import OpenVINO
    from pipelines.models.shelves import Shelves

# How many networks with LoRAs are kept for the next picture with the same ones.
_KEPT_ON_CPU = 2
_KEPT_ON_ACCELERATOR = 4

# The mean and the deviation of each channel (1, C, 1, 1), of an autoencoder that says them.
_Spread = tuple[Tensor, Tensor] | None


class StableDiffusion:
    """A loaded Stable Diffusion model on its device.

    The network runs in `dtype`; latents outside it are float32, so that samplers add nothing to its
    rounding. The text encoder and, on a CPU, the autoencoder stay in float32: they are a small part of the
    time and bf16 would show as banding.
    """

    def __init__(self, folder: ModelFolder, placement: Placement) -> None:
        transformers_logging.disable_progress_bar()
        self.folder = folder
        self.device = placement.device
        self.dtype = placement.dtype
        unet = self._load(UNet2DConditionModel, "unet", placement.dtype)
        on_cpu = placement.device.type == "cpu"
        self.adapters = Adapters(folder, unet, kept=_KEPT_ON_CPU if on_cpu else _KEPT_ON_ACCELERATOR)
        self.ip_adapters = IPAdapters(folder, unet)
        self.style_classifier: StyleClassifier | None = None
        if folder.classifier is not None:
            file = folder.path / folder.classifier.weights
            self.style_classifier = load_style_classifier(file, folder.classifier.styles, self.device)
        vae_dtype, self._preview_dtype = self._vae_dtypes(placement)
        self._vae = self._load(AutoencoderKL, "vae", vae_dtype)
        self._spread = _spread(self._vae.config, self.device)
        same = vae_dtype == self._preview_dtype
        self._preview_vae = self._vae if same else _halved(copy.deepcopy(self._vae), self._preview_dtype)
        self._text_encoder = self._load(CLIPTextModel, "text_encoder", torch.float32)
        tokenizer: Any = CLIPTokenizer.from_pretrained(folder.path, subfolder="tokenizer")
        self._tokenizer = tokenizer
        self._read_as = teach(folder.words, tokenizer, self._text_encoder)
        self.latent_channels: int = self._vae.config.latent_channels
        self.network_channels: int = unet.config.in_channels
        # Of the inpainting kind: it sees the mask and the picture with its hole beside x_t.
        self.sees_mask: bool = self.network_channels == 2 * self.latent_channels + 1
        self.vae_scale_factor: int = 2 ** (len(self._vae.config.block_out_channels) - 1)
        # Latents whose sides are multiples of it halve evenly all the way down the U-Net.
        self.latent_multiple: int = 2 ** (len(unet.config.block_out_channels) - 1)
        # Other engines for the same network, where there are any.
        self.openvino: OpenVINO | None = None
        self.compiled: CudaGraphs | None = None

    def find_on(self, shelves: Shelves) -> None:
        """Find LoRAs and IP-Adapters on these shelves from now on."""
        self.adapters.shelf = shelves.loras
        self.ip_adapters.shelf = shelves.ip_adapters

    def _vae_dtypes(self, placement: Placement) -> tuple[torch.dtype, torch.dtype]:
        """Choose the autoencoder's precision for pictures that are kept, and for looks that are not.

        Where the network runs in half precision, so may the decoder, for the latter.
        """
        return placement.vae_dtype, placement.dtype

    def _load(self, part: Any, subfolder: str, dtype: torch.dtype) -> Any:
        loaded = part.from_pretrained(
            self.folder.path,
            subfolder=subfolder,
            dtype=dtype,
            use_safetensors=True,
            variant=self.folder.variant or None,
            local_files_only=True,
        )
        return loaded.to(self.device).eval().requires_grad_(False)

    @remembered
    @torch.inference_mode()
    def encode_prompt(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, a row each; what is too long is cut, see `unread`.

        What a word of weight w says is multiplied by w, as in AUTOMATIC1111 without its normalising. Were it
        drawn away from an empty prompt instead, the embedded model would lose the style sooner (measured).
        """
        read = [weigh(prompt) for prompt in prompts]
        encoded = self._encode([one.text for one in read])
        if all(weight == 1 for one in read for weight in one.weights):
            return encoded
        spans = [self._spans(one.text) for one in read]
        weights = torch.ones(*encoded.embeds.shape[:2], 1, device=self.device)
        for row, (one, found) in enumerate(zip(read, spans, strict=True)):
            weights[row, : len(found), 0] = torch.tensor([one.weight(*span) for span in found])
        return replace(encoded, embeds=weights * encoded.embeds)

    def _encode(self, texts: Sequence[str]) -> Conditioning:
        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        uses_mask = getattr(self._text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.device) if uses_mask else None
        return Conditioning(self._text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0])

    def encode_pair(self, prompt: str, negative_prompt: str) -> tuple[Conditioning, Conditioning]:
        """Encode a prompt and its negative prompt, which may be empty."""
        negative, positive = self.encode_prompt([negative_prompt, prompt]).split()
        return positive, negative

    def unread(self, prompt: str) -> str:
        """Return the end of a prompt that the model does not read, as it was typed, or an empty string."""
        read = weigh(prompt)
        tokens = self._tokenizer(
            read.text, add_special_tokens=False, verbose=False, return_offsets_mapping=True
        )
        room: int = self._tokenizer.model_max_length - 2
        spans: list[tuple[int, int]] = tokens.offset_mapping
        return prompt[read.typed(*spans[room])[0] :].strip() if len(spans) > room else ""

    def reads_as(self, prompt: str) -> dict[str, str]:
        """Tell which words of a prompt the model never learnt, and the known one that each is read as."""
        room: int = self._tokenizer.model_max_length
        ids = self._tokenizer(weigh(prompt).text, truncation=True, max_length=room).input_ids
        tokens: list[str] = self._tokenizer.convert_ids_to_tokens(ids)
        return {token: self._read_as[token] for token in tokens if token in self._read_as}

    def token_spans(self, prompt: str) -> list[tuple[int, int]]:
        """Tell for each token that the model reads which characters of the prompt it stands for.

        The beginning and the end of the sequence stand for none: (0, 0).
        """
        read = weigh(prompt)
        return [read.typed(*span) for span in self._spans(read.text)]

    def _spans(self, text: str) -> list[tuple[int, int]]:
        room: int = self._tokenizer.model_max_length
        tokens = self._tokenizer(text, truncation=True, max_length=room, return_offsets_mapping=True)
        return [(start, stop) for start, stop in tokens.offset_mapping]

    def unet_on_same_weights(self, adapter: str = "") -> Any:
        """Return a second U-Net on the same weights: it takes no memory, and its modules may be changed."""
        return self.adapters[adapter].on_same_weights()

    @torch.inference_mode()
    def predict(self, rows: Rows) -> Tensor:
        """Run the U-Net that the rows ask for on (n, C, h, w) latents.

        Returns:
            Its raw output, of the same shape, in float32.
        """
        unet = self.adapters[rows.adapter].answering(rows.shared)
        return unet(**self.unet_arguments(rows), return_dict=False)[0].float()

    def unet_arguments(self, rows: Rows) -> dict[str, Any]:
        """Return what the U-Net is called with, by name: tensors on the device, or dictionaries of them."""
        return {
            "sample": rows.latents.to(self.dtype),
            # Without waiting: it is a few numbers, which the driver takes at once.
            "timestep": rows.timestep.to(self.device, torch.float32, non_blocking=True),
            "encoder_hidden_states": rows.prompt_embeds.to(self.dtype),
        }

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (n, C, h, w) to pixels (n, 3, H, W), about [-1, 1], float32."""
        return _decode(self._vae, latents, self._vae.dtype, self._spread)

    @torch.inference_mode()
    def preview(self, latents: Tensor) -> Tensor:
        """Decode as `decode` does, in the network's precision: half the time on a CPU, all but the same.

        Of the embedded model's pictures, at 59 dB or better; no value of 255 differs by more than 3.
        """
        return _decode(self._preview_vae, latents, self._preview_dtype, self._spread)

    @property
    def looks_are_kept(self) -> bool:
        """Whether `preview` is `decode`: both by one autoencoder."""
        return self._preview_vae is self._vae

    def decoder(self, *, looks: bool) -> tuple[Any, Callable[[Any, Tensor], Tensor]]:
        """Return a second autoencoder on the same weights as `decode` or `preview` has, and how it decodes.

        It takes no memory, and its modules may be changed.
        """
        own = self._preview_vae if looks else self._vae
        dtype = self._preview_dtype if looks else self._vae.dtype
        weights = (*own.parameters(), *own.buffers())
        vae = copy.deepcopy(own, {id(weight): weight for weight in weights})
        return vae, lambda vae, latents: _decode(vae, latents, dtype, self._spread)

    @torch.inference_mode()
    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode pixels (n, 3, H, W) in [-1, 1] to latents (n, C, h, w), float32.

        With a generator they are drawn from the encoder's posterior, as diffusers does; without, its mean.
        """
        posterior = self._vae.encode(pixels.to(self.device, self._vae.dtype)).latent_dist
        latents = posterior.mode() if generator is None else posterior.sample(generator)
        return _scaled(self._vae, latents.float(), self._spread)


def _halved(vae: Any, dtype: torch.dtype) -> Any:
    """Take an autoencoder to half precision, but for its last layers: rounding is not seen as bands.

    Channels last: a tenth faster than not, for this part (for the U-Net it is a tenth slower).
    """
    half: Any = nn.Module.to(vae, dtype)  # its own `to` warns, of nothing
    half.to(memory_format=torch.channels_last)
    half.decoder.conv_norm_out.float().register_forward_pre_hook(_in_float32)
    half.decoder.conv_out.float()
    return half


def _in_float32(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.float() for tensor in given)


def _decode(vae: Any, latents: Tensor, dtype: torch.dtype, spread: _Spread) -> Tensor:
    return vae.decode(_unscaled(vae, latents, spread).to(dtype), return_dict=False)[0].float()


def _scaled(vae: Any, latents: Tensor, spread: _Spread) -> Tensor:
    """Bring an autoencoder's latents to the scale of the network, as diffusers does."""
    if spread is None:
        return vae.config.scaling_factor * latents
    mean, deviation = spread
    return (latents - mean) * vae.config.scaling_factor / deviation


def _unscaled(vae: Any, latents: Tensor, spread: _Spread) -> Tensor:
    if spread is None:
        return latents / vae.config.scaling_factor
    mean, deviation = spread
    return latents * deviation / vae.config.scaling_factor + mean


def _spread(config: Any, device: torch.device) -> _Spread:
    """Put on the device what an autoencoder says of its latents; a compiled decoder finds it there."""
    mean, deviation = (
        None if values is None else torch.tensor(values, device=device).view(1, -1, 1, 1)
        for values in (config.get("latents_mean"), config.get("latents_std"))
    )
    return None if mean is None or deviation is None else (mean, deviation)
