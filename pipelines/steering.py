"""Classifier guidance: a classifier of noisy latents pushes a run towards the styles of its mix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.models.sd import StableDiffusion
from pipelines.recipe import Recipe
from pipelines.style_blending import Shares, shares_of
from pipelines.style_classifier import StyleClassifier


@dataclass(frozen=True, slots=True)
class Steering:
    """Steers towards styles in their shares at each moment and place, all of it times `strength`."""

    classifier: StyleClassifier
    strength: float
    shares: Shares

    def shift(
        self, noisy: Tensor, sigma: float, timestep: Tensor, prediction_type: str, progress: float
    ) -> Tensor:
        """Return what is added to the guided model output (1, C, h, w) of a step.

        Dhariwal and Nichol 2021, algorithm 2: the noise is predicted as eps - sigma_t s g, with g the
        gradient of log p(style | x_t). In v-prediction that is v - (sigma_t / alpha_t) s g, and the picture
        is predicted as x_0 + (sigma_t² / alpha_t) s g.

        Args:
            noisy: x_t as alpha_t x_0 + sigma_t noise.
            sigma: sigma_t over alpha_t.
            timestep: as the network is asked with it.
            prediction_type: of the model.
            progress: the moment of the run, from 0 to 1.
        """
        alpha_t = 1.0 / math.hypot(1.0, sigma)
        towards = self.strength * self._gradient(noisy, timestep, progress)
        match prediction_type:
            case "epsilon":
                return -sigma * alpha_t * towards
            case "v_prediction":
                return -sigma * towards
            case _:
                return sigma**2 * alpha_t * towards

    def _gradient(self, noisy: Tensor, timestep: Tensor, progress: float) -> Tensor:
        known = self.classifier.styles
        felt = [(known.index(name), share) for name, share in self.shares.at(progress) if name in known]
        if not felt:
            return torch.zeros_like(noisy)
        labels = torch.tensor([label for label, _ in felt], device=noisy.device)
        # Whoever drives the run may be in inference mode, in which nothing can be differentiated.
        with torch.inference_mode(False), torch.enable_grad():
            rows = noisy.detach().clone().expand(len(felt), -1, -1, -1).contiguous().requires_grad_()
            moments = timestep.detach().clone().to(noisy.device).expand(len(felt))
            logits = self.classifier(rows, moments)
            likely = logits.log_softmax(1).gather(1, labels.clone()[:, None]).sum()
            (gradient,) = torch.autograd.grad(likely, rows)
        parts = (share * part for (_, share), part in zip(felt, gradient.split(1), strict=True))
        return sum(parts, torch.zeros_like(noisy))


def steering_of(model: StableDiffusion, recipe: Recipe) -> Steering | None:
    """Make the steering of a recipe; None where nothing steers.

    Raises:
        BadInput: it was steered by another classifier than this model has.
    """
    mix = recipe.mix
    if mix is None or mix.steer is None or mix.steer.strength == 0:
        return None
    model.folder.check_classifier(mix)
    assert model.style_classifier is not None
    return Steering(model.style_classifier, mix.steer.strength, shares_of(model, recipe, mix))
