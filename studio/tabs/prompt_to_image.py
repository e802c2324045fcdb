"""The first tab: a prompt becomes a picture, watched step by step."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import gradio as gr

from pipelines.recipe import MAX_PICTURES, MAX_SEED, BadInput, Recipe, make_recipe
from studio.components.form import companion
from studio.components.identity import named_artist_of
from studio.components.script import Message
from studio.components.sketching import sketch_what_is_typed, sketching
from studio.components.stage import stage
from studio.tabs.examples import read_examples

if TYPE_CHECKING:
    from pipelines.models.find import ModelFolder
    from studio.studio import Studio

_FORM_JS = "/atelier/js/form.js"


def build(studio: Studio) -> None:
    """Build the tab inside the current `gr.Tab`."""
    folder, defaults = studio.folder, studio.folder.defaults
    examples = read_examples(folder)
    formats = [{"name": known.name, "width": known.width, "height": known.height} for known in folder.formats]
    with gr.Row(elem_id="easel"):
        with gr.Column(elem_id="palette"):
            prompt = gr.Textbox(
                label="Prompt",
                lines=4,
                max_lines=9,
                placeholder="What would you like to see?",
                elem_id="field-prompt",
            )
            beside_form = companion(examples)
            if folder.companion is not None:
                sketching(studio, folder.companion)
            negative_prompt = gr.Textbox(
                label="Negative prompt",
                lines=1,
                max_lines=4,
                placeholder="What to keep away from",
                elem_id="field-negative_prompt",
            )
            format_name = gr.Radio(
                [known.name for known in folder.formats],
                value=folder.formats[0].name,
                label="Format",
                elem_id="field-format",
            )
            with gr.Row(elem_classes="settings"):
                width = gr.Number(folder.width, label="Width", step=8, elem_id="field-width")
                height = gr.Number(folder.height, label="Height", step=8, elem_id="field-height")
                pictures = gr.Number(1, label="Pictures", elem_id="field-pictures")
            with gr.Row(elem_classes="settings"):
                sampler = gr.Dropdown(
                    list(folder.samplers), value=defaults.sampler, label="Sampler", elem_id="field-sampler"
                )
                steps = gr.Number(
                    defaults.num_inference_steps, label="Steps", elem_id="field-num_inference_steps"
                )
            with gr.Row(elem_classes="settings"):
                seed = gr.Textbox("-1", label="Seed", max_lines=1, elem_id="field-seed")
                guidance = gr.Number(
                    defaults.guidance_scale, label="Guidance", step=0.5, elem_id="field-guidance_scale"
                )
                draw_seed = gr.Button("Draw a new one", elem_id="draw-seed")
            paint = gr.Button("Paint", variant="primary", elem_id="paint")
        on_stage = stage(studio, examples)

    # The order in which assets/js/form.js knows them.
    fields = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "width": width,
        "height": height,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "sampler": sampler,
        "seed": seed,
        "pictures": pictures,
    }

    def begin(request: gr.Request, *values: object) -> tuple[object, Message]:
        typed = dict(zip(fields, values, strict=True))
        wanted = typed.pop("pictures")
        try:
            artist = named_artist_of(studio, request)
            group = studio.submit(artist.id, recipes_from(recipe_for(folder, **typed), wanted))
        except BadInput as error:
            return gr.skip(), {"sentence": str(error), "field": error.field, "at": time.time()}
        return {"group": group}, {"sentence": "", "field": "", "at": time.time()}

    if folder.companion is not None:
        sketch_what_is_typed(folder, folder.companion, fields)
    js = f"async (...values) => (await import('{_FORM_JS}')).%s"
    known_formats = json.dumps(formats)
    every = list(fields.values())
    gr.on(
        [paint.click],
        begin,
        every,
        [on_stage, beside_form],
        js=js % "remember(...values)",
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    # What each begins with: a field that has something else was touched, and is left as it is after a reload.
    fresh = json.dumps([field.value for field in every])
    beside_form.fill(
        None, every, every, js=js % f"taken({fresh}, ...values)", show_progress="hidden", queue=False
    )
    draw_seed.click(None, None, seed, js="() => '-1'", show_progress="hidden", queue=False)
    format_name.input(
        None,
        [format_name, width, height],
        [width, height],
        js=js % f"sizeOf({known_formats}, ...values)",
        show_progress="hidden",
        queue=False,
    )
    gr.on(
        [width.change, height.change],
        None,
        [width, height],
        format_name,
        js=js % f"formatOf({known_formats}, ...values)",
        show_progress="hidden",
        queue=False,
    )


def recipe_for(folder: ModelFolder, **fields: object) -> Recipe:
    """Make a recipe for the studio's model.

    Raises:
        BadInput: with the sentence for the artist; also for a sampler that this model cannot follow.
    """
    recipe = make_recipe(model=folder.name, model_revision=folder.revision, **fields)
    folder.check_sampler(recipe.sampler)
    return folder.steered(recipe)


def recipes_from(first: Recipe, pictures: object) -> list[Recipe]:
    """Make the recipes of a group: picture i has the first one's seed plus i.

    Raises:
        BadInput: too many pictures, a part of one, or seeds past the last one.
    """
    if not isinstance(pictures, int | float) or pictures not in range(1, MAX_PICTURES + 1):
        shown = "nothing" if pictures is None else str(pictures)
        sentence = f"Pictures must be a whole number from 1 to {MAX_PICTURES}, not {shown}."
        raise BadInput(sentence, "pictures")
    count = int(pictures)
    if first.seed + count - 1 > MAX_SEED:
        sentence = f"{count} pictures from seed {first.seed} on would pass the last seed, {MAX_SEED}."
        raise BadInput(sentence, "seed")
    return [first.model_copy(update={"seed": first.seed + i}) for i in range(count)]
