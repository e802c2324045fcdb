"""What an artist should know of how a model reads a recipe's prompts."""

from __future__ import annotations

from pipelines.models.sd import StableDiffusion
from pipelines.recipe import Recipe
from pipelines.style_blending import prompts_of
from pipelines.weighing import MAX_WEIGHT, too_heavy


def remarks(model: StableDiffusion, recipe: Recipe) -> list[str]:
    """Sentences, none mostly: which end of a prompt is not read, and which words otherwise than written."""
    prompts = prompts_of(recipe)
    cut = {name: end for name, prompt in prompts.items() if (end := model.unread(prompt))}
    said = [
        f"The model reads only so many words: it does not see the end of the {name}, “{end}”."
        for name, end in cut.items()
    ]
    others = {word: known for prompt in prompts.values() for word, known in model.reads_as(prompt).items()}
    if others:
        told = ", ".join(f"“{word}” as “{known}”" for word, known in others.items())
        said.append(f"The model reads {told}: it never learnt the word{'s' if len(others) > 1 else ''}.")
    heavy = dict.fromkeys(mark for prompt in prompts.values() for mark in too_heavy(prompt))
    if heavy:
        said.append(
            f"The model reads {' and '.join(heavy)} as written: "
            f"a word weighs from 0 to {MAX_WEIGHT:g}, as in (cat:1.4)."
        )
    return said
