"""The companion's distillation by the piece, models averaged, and networks compiled for training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from typer.testing import CliRunner

from pipelines.training.architecture import (
    TOY,
    build_autoencoder,
    build_scheduler,
    build_unet,
    load_tokenizer,
)
from pipelines.training.autoencoder import encode
from pipelines.training.cli import train_app
from pipelines.training.compiling import compile_unet
from pipelines.training.distillation import (
    LORA_FILE,
    ConsistencyLoss,
    DistillationTraining,
    LowRank,
    NamedColours,
    add_low_rank,
    save_low_rank,
)
from pipelines.training.latent_bank import decode_latents, load_frozen_autoencoder, tokenize
from pipelines.training.soup import average_low_rank, average_models
from tests.toy_pack import write_pack

EMBEDDED = Path(__file__).parents[2] / "assets" / "models" / "atelier-v1"


def test_consistency_loss_is_zero_for_a_student_that_has_arrived() -> None:
    """A network that always answers the true noise of a one-picture world is consistent along its paths."""
    training = DistillationTraining(path_steps=10, guidance_scale=1.0, huber=1e-3)
    picture = torch.randn(1, 4, 4, 4)

    class Perfect(torch.nn.Module):
        def forward(
            self, noisy: torch.Tensor, timestep: torch.Tensor, _text: torch.Tensor, *, return_dict: bool
        ) -> tuple[torch.Tensor]:
            assert not return_dict
            alpha_bar = build_scheduler().alphas_cumprod[timestep].view(-1, 1, 1, 1)
            signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
            noise = (noisy - signal * picture) / spread
            return (signal * noise - spread * picture,)

    class Text(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor]:
            return (input_ids.float()[..., None],)

    loss = ConsistencyLoss(Perfect(), Perfect(), Text(), training, torch.zeros(3, dtype=torch.long))
    drawn, answers = loss(picture.expand(32, -1, -1, -1), torch.zeros(32, 3, dtype=torch.long))
    # The boundary leaves a trace of the noise at the first point, where its weight is not quite one.
    assert drawn.item() < 1e-3
    torch.testing.assert_close(answers, picture.expand_as(answers), atol=0.02, rtol=0)


def test_colours_that_a_caption_names_are_looked_for_in_the_student_s_answers() -> None:
    device = torch.device("cpu")
    vae, tokenizer = load_frozen_autoencoder(EMBEDDED, device), load_tokenizer(EMBEDDED / "tokenizer")
    red = torch.tensor([0.5, -0.77, -1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    pixels = decode_latents(vae, encode(vae, red) * float(vae.config["scaling_factor"]))
    lacking = NamedColours(tokenizer, device)
    captions = ["baroque, red tones", "baroque, blue tones", "baroque"]
    lacks = [lacking(pixels, ids[None]).item() for ids in tokenize(tokenizer, captions).long()]
    assert lacks[0] == 0.0
    assert lacks[1] > 1.0
    assert lacks[2] == 0.0


def test_compiled_blocks_serve_every_format_and_predict_the_same() -> None:
    torch.manual_seed(0)
    unet = build_unet(TOY)
    text = torch.randn(2, 8, TOY.text_width)
    shapes = [torch.randn(2, TOY.latent_channels, height, width) for height, width in ((20, 28), (24, 24))]
    timesteps = torch.tensor([3, 500])
    graphs: list[torch.nn.Module] = []

    def kept(graph: torch.nn.Module, _inputs: object) -> torch.nn.Module:
        graphs.append(graph)
        return graph

    with torch.no_grad():
        plain = [unet(latents, timesteps, text, return_dict=False)[0] for latents in shapes]
        names = set(unet.state_dict())
        compile_unet(unet, "blocks", backend=kept)
        first = unet(shapes[0], timesteps, text, return_dict=False)[0]
        compiled = len(graphs)
        second = unet(shapes[1], timesteps, text, return_dict=False)[0]
    assert 0 < compiled == len(graphs)
    assert set(unet.state_dict()) == names
    torch.testing.assert_close([first, second], plain)


def test_an_update_is_kept_at_a_smaller_rank_as_well_as_can_be() -> None:
    torch.manual_seed(0)
    update = LowRank(torch.zeros(12, 3, 3, 3), rank=6)
    torch.nn.init.normal_(update.up)
    whole = (update.up @ update.down).detach()
    down, up = update.tensors(6)
    assert (down.shape, up.shape) == ((6, 3, 3, 3), (12, 6, 1, 1))
    torch.testing.assert_close(up.flatten(1).float() @ down.flatten(1).float(), whole, rtol=0, atol=0.02)
    down, up = update.tensors(2)
    assert (down.shape, up.shape) == ((2, 3, 3, 3), (12, 2, 1, 1))
    left = (up.flatten(1).float() @ down.flatten(1).float() - whole).norm()
    # Eckart and Young: nothing of rank 2 comes nearer.
    torch.testing.assert_close(left, torch.linalg.svdvals(whole)[2:].norm(), rtol=0.02, atol=0)


def _write(folder: Path, seed: int) -> Path:
    """A toy autoencoder and a U-Net with a companion of rank 2, all random."""
    torch.manual_seed(seed)
    build_autoencoder(TOY).save_pretrained(str(folder / "vae"))
    unet = build_unet(TOY)
    unet.save_pretrained(str(folder / "unet"))
    _write_companion(unet, folder)
    return folder


def _write_companion(unet: UNet2DConditionModel, folder: Path) -> None:
    """A random one of rank 2."""
    updates = add_low_rank(unet, 2)
    for update in updates.values():
        assert isinstance(update, LowRank)
        torch.nn.init.normal_(update.up)
    save_low_rank(updates, folder / LORA_FILE, 2)


def test_two_models_are_averaged(tmp_path: Path) -> None:
    one, other, both = _write(tmp_path / "one", 0), _write(tmp_path / "other", 1), tmp_path / "both"
    average_models(one, other, both, share=0.25, autoencoder_share=0.5)
    for part, share in (("unet", 0.25), ("vae", 0.5)):
        file = Path(part) / "diffusion_pytorch_model.safetensors"
        first, second, mean = (load_file(folder / file) for folder in (one, other, both))
        for name, weight in mean.items():
            torch.testing.assert_close(weight, share * first[name] + (1 - share) * second[name])

    updates = [load_file(folder / LORA_FILE) for folder in (one, other)]
    kept = load_file(both / LORA_FILE)
    assert {name: one.shape for name, one in kept.items()} == {n: one.shape for n, one in updates[0].items()}
    same = average_low_rank(updates[0], updates[0], 0.25)
    for name in kept:
        if name.endswith("lora_A.weight"):
            other_name = name.replace("lora_A", "lora_B")
            told = updates[0][other_name].float().flatten(1) @ updates[0][name].float().flatten(1)
            found = same[other_name].float().flatten(1) @ same[name].float().flatten(1)
            torch.testing.assert_close(found, told, rtol=0.02, atol=0.02)

    folders = ["--model", str(one), "--earlier", str(other), "--output", str(both)]
    assert CliRunner().invoke(train_app, ["average", *folders, "--share", "1.5"]).exit_code == 0
    unet = Path("unet") / "diffusion_pytorch_model.safetensors"
    first, second, beyond = (load_file(folder / unet) for folder in (one, other, both))
    for name, weight in beyond.items():
        torch.testing.assert_close(weight, first[name] + 0.5 * (first[name] - second[name]))

    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError):
        average_models(one, tmp_path / "none", both, share=0.5)


def test_a_companion_is_trained_on_from_an_earlier_one(tmp_path: Path) -> None:
    runner, model, again = CliRunner(), tmp_path / "first" / "model", tmp_path / "again"
    (tmp_path / "data").mkdir()
    write_pack(tmp_path / "data")
    common = ["--data", f"{tmp_path / 'data'}", "--size", "toy", "--workers", "1", "--max-steps", "1"]
    made = runner.invoke(train_app, ["all", *common, "--output", f"{tmp_path / 'first'}"])
    assert made.exit_code == 0, made.output
    command = ["distill", *common, "--output", f"{again}", "--model", f"{model}", "--initial", f"{model}"]
    refused = runner.invoke(train_app, command)
    assert refused.exit_code == 2
    assert "has no companion" in refused.output
    torch.manual_seed(0)
    _write_companion(build_unet(TOY), model)
    result = runner.invoke(train_app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    before, after = (_products(load_file(folder / LORA_FILE)) for folder in (model, again))
    for layer, product in before.items():
        # One step of the warm-up, and float16's rounding.
        torch.testing.assert_close(after[layer], product, rtol=0.01, atol=0.01)
    assert any(not torch.equal(after[layer], product) for layer, product in before.items())


def _products(lora: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a LoRA adds to each layer's weight, (out, in times the kernel)."""
    ends = (".lora_B.weight", ".lora_A.weight")
    layers = {name.removesuffix(ends[1]) for name in lora if name.endswith(ends[1])}
    both = {layer: [lora[layer + end].float().flatten(1) for end in ends] for layer in layers}
    return {layer: up @ down for layer, (up, down) in both.items()}
