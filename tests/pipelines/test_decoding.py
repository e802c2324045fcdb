"""Pictures are decoded together and by the compiled decoder where it is ready, and can be had again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipelines import decoding
from pipelines.calls import Call, buckets_of, calls_in_words, decoder_for, engine_of, network_calls
from pipelines.decoding import decode_kept, decode_looks, decoded_at_once
from pipelines.denoising import Rows
from pipelines.models.cuda_graphs import compile_decoder
from pipelines.models.sd import StableDiffusion
from tests.pipelines.test_denoising import recipe_of

AT_ONCE = 4


class ReadyDecoders:
    """The decoder as the compiler is given it, run by torch itself, on the CPU; `sizes` of call are ready."""

    def __init__(self, model: StableDiffusion, sizes: set[int]) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._decode: Callable[[Tensor], Tensor] = compile_decoder(model, looks=False, backend="eager")
        self._sizes = sizes
        self.asked: list[int] = []

    def decode(self, latents: Tensor, *, looks: bool = False) -> Tensor | None:
        del looks
        self.asked.append(len(latents))
        if len(latents) not in self._sizes:
            return None
        with torch.inference_mode(False), torch.no_grad():
            return self._decode(latents.clone())

    def predict(self, rows: Rows) -> None:
        del rows


@pytest.fixture
def four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator."""

    def four(device: str, *, width: int, height: int) -> int:
        del device, width, height
        return AT_ONCE

    monkeypatch.setattr(decoding, "decoded_at_once", four)


def some_latents(count: int) -> list[Tensor]:
    return list(torch.randn((count, 4, 8, 8), generator=torch.Generator().manual_seed(5)).split(1))


def test_how_many_are_decoded_at_once_depends_on_their_size() -> None:
    assert decoded_at_once("cpu", width=64, height=64) == 1
    assert [decoded_at_once("cuda", width=side, height=side) for side in (192, 512, 1024, 2048)] == [
        8,
        4,
        1,
        1,
    ]


def test_the_compiler_is_given_the_same_decoder(tiny: StableDiffusion) -> None:
    (latents,) = some_latents(1)
    before = tiny.decode(latents)
    after = ReadyDecoders(tiny, {1}).decode(latents)
    assert after is not None
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    assert torch.equal(tiny.decode(latents), before)
    vae, _ = tiny.decoder(looks=False)
    own, _ = tiny.decoder(looks=True)
    assert tiny.looks_are_kept
    pairs = zip(vae.parameters(), own.parameters(), strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in pairs), "no weight twice"
    assert any(isinstance(part, nn.Conv2d) for part in vae.modules())


@pytest.mark.usefixtures("four_at_once")
def test_kept_pictures_are_decoded_together_and_again_alone(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four fill a call, three nearly do; of two each has its own. Equal calls give the same pixels."""
    ready = ReadyDecoders(tiny, {1, AT_ONCE})
    monkeypatch.setattr(tiny, "compiled", ready)
    for count, calls in ((9, [4, 4, 1]), (7, [4, 4]), (6, [4, 1, 1]), (1, [1])):
        latents = some_latents(count)
        ready.asked.clear()
        kept = decode_kept(tiny, latents)
        assert ready.asked == calls
        for one, (image, decoder) in zip(latents, kept, strict=True):
            assert decoder.engine == "compiled"
            (again, same) = decode_kept(tiny, [one], decoder_for(["compiled 2"], said_of(decoder)))[0]
            assert same == decoder
            assert np.array_equal(np.asarray(again), np.asarray(image))
            (by_torch, own) = decode_kept(tiny, [one], decoder_for(["compiled 2"], "compiled 2"))[0]
            assert own == Call("eager", 1)
            difference = np.asarray(by_torch).astype(int) - np.asarray(image).astype(int)
            assert np.abs(difference).max() <= 1


def said_of(decoder: Call) -> str:
    return calls_in_words([Call("compiled", 2)], decoder)


@pytest.mark.usefixtures("four_at_once")
def test_without_a_ready_decoder_each_picture_is_decoded_alone_by_torch(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = some_latents(3)
    alone = [decode_kept(tiny, [one])[0] for one in latents]
    monkeypatch.setattr(tiny, "compiled", ReadyDecoders(tiny, set()))
    for (image, decoder), (other, _) in zip(decode_kept(tiny, latents), alone, strict=True):
        assert decoder == Call("eager", 1)
        assert np.array_equal(np.asarray(image), np.asarray(other))


@pytest.mark.usefixtures("four_at_once")
@pytest.mark.parametrize("ready", [set[int](), {1}, {AT_ONCE}, {1, AT_ONCE}])
def test_looks_come_in_order_whatever_is_ready(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch, ready: set[int]
) -> None:
    latents = some_latents(6)
    plain = [np.asarray(decode_looks(tiny, [one])[0]).astype(int) for one in latents]
    monkeypatch.setattr(tiny, "compiled", ReadyDecoders(tiny, ready))
    looks = decode_looks(tiny, latents)
    assert decode_looks(tiny, []) == []
    for look, other in zip(looks, plain, strict=True):
        assert np.abs(np.asarray(look).astype(int) - other).max() <= 1


def test_infotext_names_the_decoder_where_it_is_not_torchs_own(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = [Call("eager", 2), Call("compiled", 16)]
    said = calls_in_words(network, Call("compiled", 4))
    assert said == "eager 2 + compiled 16 + decoder compiled 4"
    assert calls_in_words(network, Call("eager", 1)) == "eager 2 + compiled 16"
    assert network_calls(said) == ["eager 2", "compiled 16"]
    assert network_calls("") == []
    assert decoder_for(network_calls(said), said) == Call("compiled", 4)
    assert decoder_for(["compiled 2"], "compiled 2") == Call("eager", 1)
    assert decoder_for(["compiled 2"]) is None
    assert decoder_for(["openvino 2"], "openvino 2") == Call("openvino", 1)
    assert decoder_for(["eager 2"], "decoder compiled 4") == Call("compiled", 4)
    assert decoder_for(["eager 2"], "eager 2 + decoder compiled 4000") == Call("eager", 1)
    assert buckets_of(tiny, said) == ()
    monkeypatch.setattr(tiny, "compiled", ReadyDecoders(tiny, set()))
    assert engine_of(tiny, recipe_of(tiny), "eager 2 + decoder compiled 4") == "eager"
    assert engine_of(tiny, recipe_of(tiny), said) == "compiled"
