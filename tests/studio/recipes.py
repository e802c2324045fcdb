"""Recipes for tests, without torch."""

from __future__ import annotations

from pipelines.recipe import Recipe, make_recipe
from studio.studio import Studio


def recipe_for(studio: Studio, prompt: str = "a quiet harbour", **changes: object) -> Recipe:
    """Make a small recipe for the studio's model."""
    fields: dict[str, object] = {
        "model": studio.folder.name,
        "model_revision": studio.folder.revision,
        "prompt": prompt,
        "seed": 1,
        "width": 64,
        "height": 64,
        "sampler": "Euler",
        "num_inference_steps": 4,
        "guidance_scale": 5,
    }
    return make_recipe(**(fields | changes))
