"""Compiling the U-Net for training, so that it starts soon and is compiled once for all formats.

Compiling it whole makes a program for each of the three formats, each of nearly 900 operations forward and as
many backward: minutes before the first step. Its blocks are 17 different shapes of two classes; compiled with
free height and width, one program of each serves every format, and what is left uncompiled (the down- and
upsampling convolutions, the time embedding) is small.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel

CompileFor = Literal["blocks", "format-blocks", "formats", "any"]
"""What is compiled: each kind of block once or for each format, or the whole U-Net for each or any format.

Free sizes are the harder task for the compiler (on a CPU, torch 2.13 fails at it): the others are there for a
machine where it fails.
"""

_MOST_VARIANTS = 96


def compile_unet(
    unet: UNet2DConditionModel, what: CompileFor, backend: str | Callable[..., Any] = "inductor"
) -> None:
    """Have the U-Net compiled when it is first called; its weights and their names stay as they are.

    `backend` is torch.compile's.
    """
    # torch gives these two settings no public name.
    settings: Any = import_module("torch._dynamo.config")
    # All blocks of one class share their code, and dynamo gives up on code after 8 variants by default.
    settings.recompile_limit = _MOST_VARIANTS
    # Split where DDP sends gradients, every part would be compiled by itself; sending 140 MB at the end of
    # the backward pass costs a millisecond between two GPUs of one machine.
    settings.optimize_ddp = False
    if what in ("formats", "any"):
        unet.compile(dynamic=what == "any", backend=backend)
        return
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D | Transformer2DModel):
            module.compile(dynamic=what == "blocks", backend=backend)


def load_compiled(path: Path) -> None:
    """Take up what an earlier process compiled, on the same kind of GPU with the same versions."""
    if path.exists():
        torch.compiler.load_cache_artifacts(path.read_bytes())


def save_compiled(path: Path) -> None:
    """Keep what this process compiled for the next one."""
    if (saved := torch.compiler.save_cache_artifacts()) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved[0])
