"""Calls of the network: rows padded to fixed sizes, no more at once than memory allows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from accelerate.utils.memory import clear_device_cache, find_executable_batch_size
from torch import Tensor

from pipelines.denoising import Rows, tensors_of
from pipelines.models.sd import StableDiffusion
from pipelines.recipe import Recipe

BUCKETS = (2, 4, 8, 16, 32, 64)
# The one bucket of a deterministic studio: four guided pictures in a call, and one alone is not much slower.
_ONE_BUCKET = 8

_DECODER = "decoder "

Engine = Literal["eager", "compiled", "openvino"]


@dataclass(frozen=True, slots=True)
class Call:
    """How rows were answered: by which engine, and how many rows, padding included, the call had.

    Rows answered by equal calls agree bit for bit on one machine, whoever else was in them.
    """

    engine: Engine
    rows: int

    def __str__(self) -> str:
        return f"{self.engine} {self.rows}"


def calls_in_words(calls: Iterable[Call | str], decoder: Call | None = None) -> str:
    """Write the calls of a picture, as its infotext has them: "eager 2 + compiled 16 + decoder compiled 4".

    Nothing is said of a decoder that is torch's own, or follows from the calls.
    """
    named = [f"{_DECODER}{decoder}"] if decoder is not None and decoder.engine == "compiled" else []
    return " + ".join([*map(str, calls), *named])


def network_calls(calls: str) -> list[str]:
    """Take the calls of the network out of what an infotext says: "eager 2", "compiled 16"."""
    return [call for call in calls.split(" + ") if call and not call.startswith(_DECODER)]


def engine_of(model: StableDiffusion, recipe: Recipe, calls: str = "") -> Engine:
    """Choose the engine that paints a recipe: the fastest there is, or the one that painted it before.

    `calls` are those of the picture that is painted again, as its infotext has them. What follows pictures
    is painted by torch's own calls: only there rows can share attention. So is what LoRAs are added to: no
    other engine knows those weights. Where the engine is compiled, calls
    for which nothing is ready are eager, so that a picture can have calls of both.
    """
    lineage = recipe.lineage()
    if any(member.loras or (member.mix is not None and member.mix.followed) for member in lineage):
        return "eager"
    network = network_calls(calls)
    if model.compiled is not None and (not network or any(call.startswith("compiled") for call in network)):
        return "compiled"
    size = recipe.height // model.vae_scale_factor, recipe.width // model.vae_scale_factor
    ready = model.openvino is not None and model.openvino.fits(*size)
    return "openvino" if ready and (not calls or calls.startswith("openvino")) else "eager"


def decoder_for(network: Iterable[str], before: str = "") -> Call | None:
    """Choose the decoder of a picture by the calls of the network; None is whichever is quick.

    One that is painted again, of whose calls its infotext says `before`, is decoded as it was.
    """
    if any(call.startswith("openvino") for call in network):
        return Call("openvino", 1)
    compiled = re.search(rf"(?:^| ){_DECODER}compiled ([1-9])$", before)
    if compiled:
        return Call("compiled", int(compiled[1]))
    return Call("eager", 1) if before else None


def buckets_of(model: StableDiffusion, calls: str) -> tuple[int, ...]:
    """Choose the sizes of call that paint a picture again: its own where it had one on an accelerator."""
    sizes = {int(call.split()[1]) for call in network_calls(calls) if re.fullmatch(r"[a-z]+ [1-9]\d*", call)}
    return tuple(sizes) if model.device.type != "cpu" and len(sizes) == 1 else ()


class Calls:
    """Asks the network, in calls of a few fixed sizes.

    A row's result does not depend on its neighbours, but in the last bits on how many there are: of a few
    sizes, a seed stays a seed. Without buckets every call has just the rows that were asked.
    """

    def __init__(self, model: StableDiffusion, buckets: Sequence[int] = ()) -> None:
        """Take the model and the sizes, smallest first."""
        self._model = model
        self.buckets = tuple(buckets)

    def predict(self, rows: Rows, engine: Engine = "eager") -> tuple[Tensor, list[Call]]:
        """Answer rows; when memory runs out, with at most half as many in a call from then on.

        Returns:
            The network's output for them, and for each row the call it was in.

        Raises:
            torch.OutOfMemoryError: there is no room for one row.
        """
        while True:
            largest = self._bucket(len(rows.latents))
            try:
                return self._in_buckets(rows, engine)
            except torch.OutOfMemoryError:
                if not self.buckets or rows.shared or largest == 1:
                    raise
                self.buckets = _no_larger(self.buckets, largest // 2)
            compiled = self._model.compiled
            clear_device_cache() if compiled is None else compiled.clear_device_cache()

    def _in_buckets(self, rows: Rows, engine: Engine) -> tuple[Tensor, list[Call]]:
        count = len(rows.latents)
        # Rows that share attention stay together.
        most = self.buckets[-1] if self.buckets and not rows.shared else count
        answers: list[Tensor] = []
        calls: list[Call] = []
        for start in range(0, count, most):
            taken = min(most, count - start)
            size = max(taken, self._bucket(taken))
            asked = rows if size == count else _padded(rows, start, taken, size)
            answer, answered_by = self._ask(asked, engine)
            answers.append(answer[:taken])
            calls += [Call(answered_by, size)] * taken
        return torch.cat(answers) if len(answers) > 1 else answers[0], calls

    def _ask(self, rows: Rows, engine: Engine) -> tuple[Tensor, Engine]:
        """Answer one call, and tell by which engine that was."""
        if engine == "openvino":
            if self._model.openvino is None:
                raise ValueError("OpenVINO has not been prepared for this model")
            return self._model.openvino.predict(rows), "openvino"
        if engine == "compiled" and self._model.compiled is not None and not rows.shared:
            answer = self._model.compiled.predict(rows)
            if answer is not None:
                return answer, "compiled"
        return self._model.predict(rows), "eager"

    def _bucket(self, count: int) -> int:
        return next((size for size in self.buckets if size >= count), max(self.buckets, default=count))


def _padded(rows: Rows, start: int, taken: int, size: int) -> Rows:
    """Take some rows and fill them up to a size with the last of them: numbers of a kind the network knows.

    By slices, since a list of rows would have to be sent to the device, and waited for.
    """

    def fill(whole: Tensor) -> Tensor:
        part = whole[start : start + taken]
        return torch.cat([part, part[-1:].expand(size - taken, *part.shape[1:])])

    return replace(rows, **{name: fill(whole) for name, whole in tensors_of(rows).items()})


def _no_larger(buckets: Sequence[int], most: int) -> tuple[int, ...]:
    return tuple(size for size in buckets if size <= most) or (most,)


@torch.inference_mode()
def fit_buckets(model: StableDiffusion, *, deterministic: bool = False) -> tuple[int, ...]:
    """Find the sizes of call that fit in memory, by trying the model at its largest format.

    A deterministic studio has one: every row of every picture then has the same company in number.

    Raises:
        RuntimeError: there is no room for a single row.
    """
    folder = model.folder
    largest = max(folder.formats, key=lambda format_: format_.width * format_.height)
    height, width = largest.height // model.vae_scale_factor, largest.width // model.vae_scale_factor
    empty = model.encode_prompt([""])
    buckets = (_ONE_BUCKET,) if deterministic else BUCKETS
    trying = buckets[-1]

    def halve() -> int:
        nonlocal trying
        trying //= 2
        return trying

    def ask(count: int) -> int:
        latents = torch.zeros(count, model.network_channels, height, width, device=model.device)
        timestep = torch.zeros(count, device=model.device)
        read = empty.expand(count)
        model.predict(Rows(latents, timestep, read.embeds, pooled_embeds=read.pooled))
        return count

    search: Any = find_executable_batch_size
    most: int = search(ask, starting_batch_size=trying, reduce_batch_size_fn=halve)()
    return _no_larger(buckets, most)
