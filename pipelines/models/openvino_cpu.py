"""The U-Nets of a model in OpenVINO, for a CPU: the same network in less than half of float32's time.

Converting is done once for a model revision, in a process of its own, and kept in a cache folder; a size is
compiled when it is first painted. The autoencoder stays with torch: OpenVINO 2026.4 gains nothing on it.

That process also compiles what it converted, since on some processors (seen: an EPYC with AVX2 and without
AVX-512) OpenVINO's compiler dies of it, and would take the studio with it. A note is kept of that, so that
the next start does not spend its first half minute on dying again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipelines.denoising import Rows
from pipelines.models.revisions import cache_dir

if TYPE_CHECKING:
    from pipelines.models.sd import StableDiffusion

# Rows of a compiled call; other numbers are asked in several.
_ROWS = 2
# Each holds the network's weights once more.
_COMPILED_AT_MOST = 4
_NICE = 10
# How a program dies of itself; killed by another, it may well work the next time.
_FAULTS = ("SIGSEGV", "SIGILL", "SIGABRT", "SIGFPE", "SIGBUS")


def openvino_is_for(model: StableDiffusion) -> bool:
    """Tell whether a model runs on a CPU and OpenVINO is installed; SDXL is not converted."""
    fits = model.device.type == "cpu" and model.folder.family == "sd"
    return fits and importlib.util.find_spec("openvino") is not None


class OpenVINO:
    """The converted U-Nets of one model; `predict` answers rows as the model's own does.

    Results differ from torch's about as bf16 differs from float32, and do not change from call to call.
    """

    def __init__(self, model: StableDiffusion, cache: Path | None = None) -> None:
        """Read what `convert` has left in the cache folder.

        Raises:
            FileNotFoundError: the model has not been converted yet.
        """
        self._core: Any = _openvino().Core()
        folder = _folder(model.folder.revision, _precision(model), cache or cache_dir("openvino"))
        self._files = {adapter: folder / f"unet{adapter}.xml" for adapter in model.adapters.names}
        for file in self._files.values():
            file.stat()
        self._settings = _settings(_precision(model))
        self._multiple = model.latent_multiple
        self._compiled: OrderedDict[tuple[str, tuple[int, ...], tuple[int, ...]], Any] = OrderedDict()

    def fits(self, height: int, width: int) -> bool:
        """Tell whether latents of this size halve evenly all the way down, as those it was converted with."""
        return height % self._multiple == 0 and width % self._multiple == 0

    @torch.inference_mode()
    def predict(self, rows: Rows) -> Tensor:
        """Run the U-Net that the rows ask for, as `StableDiffusion.predict` does; float32."""
        answers: list[Tensor] = []
        parts = (rows.latents.split(_ROWS), rows.timestep.split(_ROWS), rows.prompt_embeds.split(_ROWS))
        for latents, timestep, embeds in zip(*parts, strict=True):
            network = self.compiled(rows.adapter, latents.shape, embeds.shape)
            given = [latents.float().numpy(), timestep.float().numpy(), embeds.float().numpy()]
            answers.append(torch.from_numpy(network(given)[0].copy()))
        return torch.cat(answers)

    def compiled(self, adapter: str, latents: tuple[int, ...], embeds: tuple[int, ...]) -> Any:
        """Return the network for latents (n, C, h, w) and embeddings (n, tokens, dim): seconds if new."""
        key = (adapter, tuple(latents), tuple(embeds))
        if key not in self._compiled:
            self._compiled[key] = _compile(self._core, self._files[adapter], latents, embeds, self._settings)
            if len(self._compiled) > _COMPILED_AT_MOST:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return self._compiled[key]


def _never_over(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def prepare_openvino(
    model: StableDiffusion, is_over: Callable[[float], bool] = _never_over, cache: Path | None = None
) -> OpenVINO | None:
    """Convert a model in another process, unless it was done before, and compile its first format.

    Args:
        model: on a CPU.
        is_over: waits up to so many seconds, and tells whether to give up; never by default.
        cache: the folder for what is converted.

    Returns:
        None when it was given up.

    Raises:
        RuntimeError: it cannot be converted, with the last line of the reason, or it died of it before.
    """
    cache = cache or cache_dir("openvino")
    target = _folder(model.folder.revision, _precision(model), cache)
    if not target.exists():
        # By the machine's name, since several can share a home folder.
        note = target.with_name(f"{target.name}-{platform.node()}.died")
        if note.exists():
            raise RuntimeError(f"{note.read_text()}; to have it tried again, remove {note}")
        command = [sys.executable, "-W", "ignore", "-m", __name__]
        command += [str(model.folder.path), str(cache), _precision(model)]
        root = Path(__file__).resolve().parents[2]
        with subprocess.Popen(
            command, cwd=root, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as process:
            while process.poll() is None:
                if is_over(0.2):
                    process.kill()
                    return None
            assert process.stderr is not None
            if process.returncode < 0:
                died = signal.Signals(-process.returncode).name
                reason = f"OpenVINO does not work here: it died when it was tried ({died})"
                if died in _FAULTS:
                    cache.mkdir(parents=True, exist_ok=True)
                    note.write_text(reason)
                raise RuntimeError(reason)
            if process.returncode:
                reason = process.stderr.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(f"OpenVINO cannot convert the model: {' '.join(reason[-1:])}")
    prepared = OpenVINO(model, cache)
    prepared.compiled("", *_first_shapes(model))
    return prepared


def convert(path: Path, cache: Path, precision: str) -> None:
    """Convert the U-Nets of a model folder, weights in float32, into the cache folder, and try them.

    `precision` is what they are tried in, bf16 or f32.
    """
    from pipelines.models.find import read_model_folder
    from pipelines.models.load import load_model
    from pipelines.models.place import Placement

    cpu = torch.device("cpu")
    model = load_model(read_model_folder(path), Placement(cpu, torch.float32, torch.float32))
    openvino = _openvino()
    target = _folder(model.folder.revision, precision, cache)
    # Under one name, so that what a studio that was closed left of it is not kept for ever.
    whole = cache / f"{target.name}.new"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    for adapter in model.adapters.names:
        embeds = model.encode_prompt([""] * 2).embeds
        side = 2 * model.latent_multiple
        example = (torch.zeros(2, model.network_channels, side, side), torch.zeros(2), embeds)
        with torch.no_grad():
            network = openvino.convert_model(
                _Positional(model.unet_on_same_weights(adapter)), example_input=example
            )
        file = whole / f"unet{adapter}.xml"
        openvino.save_model(network, file, compress_to_fp16=False)
        _compile(openvino.Core(), file, *_first_shapes(model), _settings(precision))
    whole.rename(target)


def _precision(model: StableDiffusion) -> str:
    return "bf16" if model.dtype == torch.bfloat16 else "f32"


def _settings(precision: str) -> dict[str, object]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Tied to their cores, its threads wait for those that other work is using.
        "ENABLE_CPU_PINNING": False,
    }


def _first_shapes(model: StableDiffusion) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of latents and embeddings in the model's own format."""
    folder, embeds = model.folder, model.encode_prompt([""] * _ROWS).embeds
    height, width = folder.height // model.vae_scale_factor, folder.width // model.vae_scale_factor
    return (_ROWS, model.network_channels, height, width), tuple(embeds.shape)


def _compile(
    core: Any, file: Path, latents: tuple[int, ...], embeds: tuple[int, ...], settings: dict[str, object]
) -> Any:
    network = core.read_model(file)
    network.reshape({0: list(latents), 1: [latents[0]], 2: list(embeds)})
    return core.compile_model(network, "CPU", settings)


class _Positional(nn.Module):
    """A U-Net that takes and gives tensors only."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self._unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
        return self._unet(latents, timestep, encoder_hidden_states=prompt_embeds, return_dict=False)[0]


def _openvino() -> Any:
    """Import OpenVINO, which is optional and whose types are not there to be checked."""
    return importlib.import_module("openvino")


def _folder(revision: str, precision: str, cache: Path) -> Path:
    return cache / f"{revision[:16]}-{version('openvino')}-{precision}"


if __name__ == "__main__":
    os.nice(_NICE)
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
