"""U-Nets and decoders compiled and recorded as CUDA graphs: a call then costs one launch instead of hundreds.

Each number of rows and size of picture is a program of its own, since nothing of a graph may change but the
numbers in its inputs. Compiling takes a minute, so it is done beside the painter, for what is really painted.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn

from pipelines.denoising import Rows, tensors_of
from pipelines.models.revisions import cache_dir

if TYPE_CHECKING:
    from pipelines.models.sd import StableDiffusion

log = logging.getLogger(__name__)

# Each keeps memory for its inputs and its answer; what is between them they share.
_MOST_GRAPHS = 16
_MOST_DECODERS = 8
_MOST_VARIANTS = 96
# A whole picture's calls: what is asked less often is not worth a minute.
_OFTEN = 20
_LOOK_S = 0.5
# The first call compiles, and the libraries behind it choose and load what they need in the next ones.
_WARM_UPS = 3
# Compiling is Python, of which one thread runs at a time: a painter lets go of it in each of the thousand
# operations of a call, and would get it back after 5 ms each time.
_TURN_S = 1e-5

_Kind = tuple[str, tuple[int, ...], tuple[int, ...]]
# Whether it decodes looks in a way of their own, and the shape of the latents.
_DecoderKind = tuple[bool, tuple[int, ...]]


def cuda_graphs_are_for(model: StableDiffusion) -> bool:
    """Tell whether a model runs on CUDA and torch's compiler has what it writes its programs in."""
    return model.device.type == "cuda" and importlib.util.find_spec("triton") is not None


def compile_call(unet: Any, backend: str | Callable[..., Any] = "inductor") -> Any:
    """Fuse the projections of a U-Net's attention and have it compiled, anew for every shape it is given.

    `unet` is changed; `backend` is torch.compile's.
    """
    unet.fuse_qkv_projections()
    _lay_channels_last(unet)
    return _compile(unet, backend)


def compile_decoder(
    model: StableDiffusion, *, looks: bool, backend: str | Callable[..., Any] = "inductor"
) -> Callable[[Tensor], Tensor]:
    """Have what `model.decode` does compiled, or `model.preview`, anew for every shape it is given."""
    vae, decode = model.decoder(looks=looks)
    _lay_channels_last(vae.decoder)

    def decoded(latents: Tensor) -> Tensor:
        return decode(vae, latents)

    return _compile(decoded, backend)


def _compile(call: Any, backend: str | Callable[..., Any]) -> Any:
    # A convolution of one pixel is a matrix product, for which the compiler knows better programs.
    options: dict[str, Any] = {"conv_1x1_as_mm": True} if backend == "inductor" else {}
    return torch.compile(call, dynamic=False, backend=backend, options=options)


def _lay_channels_last(module: nn.Module) -> None:
    """Give a network's convolutions weights of their own that lie as the compiler wants them.

    It would copy them so in every call: of SD 1.5's U-Net a gigabyte.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size != (1, 1):
            weight = part.weight.to(memory_format=torch.channels_last)
            part.weight = nn.Parameter(weight, requires_grad=False)


@dataclass(slots=True)
class _Met:
    """A kind of call that was asked for: rows of its shapes, without numbers, and how often it was."""

    rows: Rows
    calls: int = 0


class CudaGraphs:
    """The recorded calls of one model; `predict` answers rows as the model's own does, where it can.

    One thread asks (the painter), another one may compile meanwhile. The same program gives the same bits in
    every call, other ones than torch's own by as much as half precision rounds.
    """

    def __init__(self, model: StableDiffusion, *, waits: bool = False) -> None:
        """Take the model; one that `waits` compiles what it is asked for the first time, then answers."""
        self._model = model
        self._waits = waits
        self._unets: dict[str, Any] = {}
        self._graphs: dict[_Kind, _Graph] = {}
        self._met: dict[_Kind, _Met] = {}
        self._capturing = threading.Lock()
        self._calls = _Recorder(model.device, self._capturing)
        # Pictures are decoded while the next calls are made: these graphs have memory of their own.
        self._decoding = _Recorder(model.device, self._capturing)
        self._decoders: dict[_DecoderKind, _Graph] = {}
        self._decoders_met: Counter[_DecoderKind] = Counter()
        self._without_decoder: set[_DecoderKind] = set()
        self._decoding_programs: dict[bool, Callable[[Tensor], Tensor]] = {}
        # How long compiling took in all, in seconds.
        self.compile_s = 0.0

    def __len__(self) -> int:
        return len(self._graphs)

    @torch.inference_mode()
    def predict(self, rows: Rows) -> Tensor | None:
        """Run the U-Net that the rows ask for, as `StableDiffusion.predict` does; None without a graph."""
        kind = _kind(rows)
        if self._waits and kind not in self._graphs and len(self._graphs) < _MOST_GRAPHS:
            self.prepare(rows)
        graph = self._graphs.get(kind)
        if graph is None:
            met = self._met.get(kind)
            if met is None:
                met = self._met[kind] = _Met(_blank(rows, torch.device("meta")))
            met.calls += 1
            return None
        return graph.replay(self._model.unet_arguments(rows))

    def keep_compiling(self, is_over: Callable[[float], bool]) -> None:
        """Compile what is met, the most frequent first, up to as many as there may be; calls before decoders.

        Args:
            is_over: waits up to so many seconds, and tells whether to give up.
        """
        while not is_over(_LOOK_S):
            rows, decoder = self._most_wanted(), self._most_wanted_decoder()
            with _short_turns():
                if rows is not None and len(self._graphs) < _MOST_GRAPHS:
                    self.prepare(rows)
                elif decoder is not None and len(self._decoders) < _MOST_DECODERS:
                    self._try_decoder(*decoder)

    def _most_wanted(self) -> Rows | None:
        wanted = [
            met for kind, met in list(self._met.items()) if kind not in self._graphs and met.calls >= _OFTEN
        ]
        return max(wanted, key=lambda met: met.calls).rows if wanted else None

    def _most_wanted_decoder(self) -> _DecoderKind | None:
        done = self._decoders.keys() | self._without_decoder
        met = ((kind, calls) for kind, calls in self._decoders_met.most_common() if kind not in done)
        kind, calls = next(met, (None, 0))
        return kind if calls >= _OFTEN else None

    def _try_decoder(self, looks: bool, shape: tuple[int, ...]) -> None:
        """Prepare a decoder; where that fails, as for want of memory, torch's own goes on."""
        try:
            self.prepare_decoder(looks, shape)
        except Exception:
            log.exception("latents of %s are decoded by torch", shape)
            self._without_decoder.add((looks, shape))
            self.clear_device_cache()

    def prepare(self, rows: Rows) -> None:
        """Compile and record the call of rows of these shapes, whatever numbers they have."""
        start = time.perf_counter()
        kind, model = _kind(rows), self._model
        _set_up_compiler()
        with torch.inference_mode(False), torch.no_grad():
            if rows.adapter not in self._unets:
                self._unets[rows.adapter] = compile_call(model.unet_on_same_weights(rows.adapter))
            # Of torch's own memory: what was made in inference mode could not be written to outside it.
            given = _copied(model.unet_arguments(_blank(rows, model.device)))
            unet = self._unets[rows.adapter]
            self._graphs[kind] = self._calls.record(lambda: unet(**given, return_dict=False)[0], given)
        self._met.pop(kind, None)
        took_s = time.perf_counter() - start
        self.compile_s += took_s
        log.info("calls of %d rows for latents %s are compiled, in %.0f s", kind[1][0], kind[1][2:], took_s)

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, looks: bool = False) -> Tensor | None:
        """Decode as `StableDiffusion.decode` does, or for `looks` as `preview` does; None without a graph."""
        kind = looks and not self._model.looks_are_kept, tuple(latents.shape)
        if self._waits and kind not in self._decoders and len(self._decoders) < _MOST_DECODERS:
            self.prepare_decoder(*kind)
        graph = self._decoders.get(kind)
        if graph is None:
            self._decoders_met[kind] += 1
            return None
        return graph.replay({"latents": latents})

    def prepare_decoder(self, looks: bool, shape: tuple[int, ...]) -> None:
        """Compile and record how latents of a shape are decoded, to be kept or as looks."""
        start = time.perf_counter()
        _set_up_compiler()
        with torch.inference_mode(False), torch.no_grad():
            if looks not in self._decoding_programs:
                self._decoding_programs[looks] = compile_decoder(self._model, looks=looks)
            decode = self._decoding_programs[looks]
            latents = torch.zeros(shape, device=self._model.device)
            self._decoders[looks, shape] = self._decoding.record(
                lambda: decode(latents), {"latents": latents}
            )
        took_s = time.perf_counter() - start
        self.compile_s += took_s
        log.info("the decoder of %d latents %s is compiled, in %.0f s", shape[0], shape[2:], took_s)

    def clear_device_cache(self) -> None:
        """Give unused memory back to the device; not while a graph is recorded, which torch forbids."""
        with self._capturing:
            clear_device_cache()


class _Recorder:
    """Records graphs that are replayed one after another, so that they may use the same memory."""

    def __init__(self, device: torch.device, capturing: threading.Lock) -> None:
        self._device = device
        self._capturing = capturing
        self._stream: Any = torch.cuda.Stream(device)
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._replaying = threading.Lock()
        self._done: Any = None

    def record(self, call: Callable[[], Tensor], given: dict[str, Any]) -> _Graph:
        """Make a call a few times, then record it; `given` are the tensors that it reads."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                call()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # "thread_local": what other threads launch meanwhile is none of the graph's business.
        with (
            self._capturing,
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
        ):
            answer = call()
        self._stream.synchronize()
        return _Graph(self, graph, given, answer)

    @contextmanager
    def turn(self) -> Generator[None]:
        """Have what is launched within wait for the turn before, on whichever stream that was."""
        with self._replaying:
            if self._done is not None:
                self._done.wait()
            yield
            self._done = torch.cuda.Event()
            self._done.record()


@dataclass(frozen=True, slots=True)
class _Graph:
    """A recorded call: it reads `given`, always at the same place in memory, and writes `answer`."""

    recorder: _Recorder
    graph: torch.cuda.CUDAGraph
    given: dict[str, Any]
    answer: Tensor

    def replay(self, arguments: dict[str, Any]) -> Tensor:
        """Fill in the arguments and return the answer, in float32; the caller waits for nothing."""
        with self.recorder.turn():
            _fill(self.given, arguments)
            self.graph.replay()
            return self.answer.to(torch.float32, copy=True)


def _set_up_compiler() -> None:
    """Tell torch's compiler where its programs are kept, and how many one thread may make of a function.

    All shapes are variants of one function, and dynamo gives up on it after 8 by default. The setting belongs
    to the thread that compiles; torch gives it no public name.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir("inductor")))
    settings: Any = import_module("torch._dynamo.config")
    settings.recompile_limit = _MOST_VARIANTS


@contextmanager
def _short_turns() -> Generator[None]:
    """Let other threads go on without delay while this one computes."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)


def _kind(rows: Rows) -> _Kind:
    return rows.adapter, tuple(rows.latents.shape), tuple(rows.prompt_embeds.shape)


def _blank(rows: Rows, device: torch.device) -> Rows:
    """Return rows of the same shapes on a device, all of zeros."""
    return replace(
        rows,
        stepping=None,
        **{name: torch.zeros_like(tensor, device=device) for name, tensor in tensors_of(rows).items()},
    )


def _copied(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _copied(given)
        if isinstance(given, dict)
        else given.clone(memory_format=torch.contiguous_format)
        for name, given in arguments.items()
    }


def _fill(given: dict[str, Any], arguments: dict[str, Any]) -> None:
    for name, place in given.items():
        if isinstance(place, dict):
            _fill(place, arguments[name])
        else:
            place.copy_(arguments[name])
