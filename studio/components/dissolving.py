"""Letting the model bring a dissolved picture back: image to image, where the step is the strength."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import gradio as gr

from pipelines.recipe import BadInput, Recipe, make_recipe
from pipelines.sources import make_source
from studio.components.identity import named_artist_of
from studio.components.script import Message, ServerFunction
from studio.dissolving import way_back

if TYPE_CHECKING:
    from pipelines.models.find import ModelFolder
    from studio.studio import Studio

# What is typed beside the film; the rest is decided by where it stands.
_TYPED = ("prompt", "guidance_scale", "seed", "width", "height")


def dissolving(studio: Studio) -> list[ServerFunction]:
    """Make what the browser calls: `bring_back` a picture from a step of its dissolving."""

    def bring_back(message: Message, request: gr.Request) -> Message:
        try:
            artist = named_artist_of(studio, request)
            group = studio.submit(artist.id, [brought_back(studio.folder, message)])
        except BadInput as error:
            return {"sentence": str(error), "field": error.field}
        return {"group": group}

    return [bring_back]


def brought_back(folder: ModelFolder, message: Message) -> Recipe:
    """Make the recipe that begins from `message["source"]` at step `message["step"]` of the model's defaults.

    Raises:
        BadInput: with the sentence for the artist.
    """
    step, count = message.get("step"), folder.defaults.num_inference_steps
    if not isinstance(step, int) or not 0 <= step < count:
        raise BadInput("Go to a step with some grain in it: there the model can take over.", "step")
    # Rounded up, so that as many steps are left as the strength says, however it is divided.
    strength = math.ceil(1e4 * (count - step) / count) / 1e4
    return make_recipe(
        model=folder.name,
        model_revision=folder.revision,
        sampler=way_back(folder),
        num_inference_steps=count,
        source=make_source(image=message.get("source"), strength=strength),
        **{name: message[name] for name in _TYPED if name in message},
    )
