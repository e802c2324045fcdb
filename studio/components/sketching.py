"""The live switch: while she writes, the companion sketches what she has written so far on the stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import gradio as gr

from pipelines.recipe import BadInput, make_recipe
from studio.components.identity import named_artist_of
from studio.components.script import Message, scripted

if TYPE_CHECKING:
    from gradio.components import Component

    from pipelines.models.find import Companion, ModelFolder
    from studio.studio import Studio

_MARKUP = """
<div class="live">
  <label class="live-switch" title="Sketch what is written, while it is written">
    <input type="checkbox" role="switch"><span class="live-track" aria-hidden="true"></span>Live sketch
  </label>
  <p class="live-word" role="status"></p>
</div>
"""
_TYPED = ("prompt", "negative_prompt", "width", "height", "seed")
_KEPT = ("prompt", "negative_prompt", "seed", "width", "height")


def sketching(studio: Studio, companion: Companion) -> gr.HTML:
    """Build the switch; its sketches come from `/sketch`, and one that she keeps becomes a picture."""

    def keep(message: Message, request: gr.Request) -> Message:
        try:
            artist = named_artist_of(studio, request)
            folder, pace = studio.folder, companion.pace.model_dump()
            wanted = {name: message.get(name) for name in _KEPT}
            recipe = make_recipe(model=folder.name, model_revision=folder.revision, **pace, **wanted)
            return {"group": studio.submit(artist.id, [recipe])}
        except BadInput as error:
            return {"sentence": str(error)}

    return scripted("sketching", _MARKUP, elem_id="sketching", server=[keep])


def sketch_what_is_typed(folder: ModelFolder, companion: Companion, fields: Mapping[str, Component]) -> None:
    """Let the switch hear of the form, and set the companion's pace where its sampler is chosen.

    `fields` are the form's, in the order in which assets/js/form.js knows them.
    """
    js = "async (...values) => (await import('/atelier/js/sketching.js')).%s"
    every = list(fields.values())
    gr.on(
        [change for name in _TYPED if (change := getattr(fields[name], "change", None)) is not None],
        None,
        every,
        None,
        js=js % "typed(...values)",
        show_progress="hidden",
        queue=False,
    )
    paces = {
        sampler: folder.defaults_for(sampler).model_dump(exclude={"sampler"}) for sampler in folder.samplers
    }
    paced = [fields[name] for name in ("sampler", "num_inference_steps", "guidance_scale")]
    chosen = getattr(fields["sampler"], "input", None)
    assert chosen is not None, "a drop-down tells what is chosen"
    chosen(
        None,
        paced,
        paced[1:],
        js=js % f"paceOf({json.dumps(paces)}, {json.dumps(companion.sampler)}, ...values)",
        show_progress="hidden",
        queue=False,
    )
