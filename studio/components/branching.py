"""Branches on the timeline: a new picture from a step of a painted one, and the family they make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from pipelines.recipe import BadInput, Recipe, make_recipe
from pipelines.samplers import SAMPLERS
from studio.components.artworks import cancel_on_request, told
from studio.components.identity import artist_of, named_artist_of
from studio.components.mixing import mix_from
from studio.components.script import Message, ServerFunction

if TYPE_CHECKING:
    from pipelines.models.find import ModelFolder
    from pipelines.models.shelves import Shelves
    from studio.gallery import Artwork
    from studio.studio import Studio

# What a branch may do otherwise than the picture it leaves.
_CHANGES = ("prompt", "negative_prompt", "guidance_scale", "sampler", "num_inference_steps", "seed")


def branching_samplers(folder: ModelFolder) -> list[str]:
    """List the model's samplers that can take over in the middle of a run."""
    return [name for name in folder.samplers if SAMPLERS[name].begins_midway]


def branching(studio: Studio) -> list[ServerFunction]:
    """Make what the browser calls: paint a `branch`, `cancel` it, and list the `family` of a picture."""

    def branch(message: Message, request: gr.Request) -> Message:
        try:
            artist = named_artist_of(studio, request)
            parent = studio.gallery.get(str(message.get("artwork", "")), artist.id).recipe
            pace = pace_of(studio.folder, parent, message)
            recipe = branch_of(parent, message | pace, studio.shelves)
            if "mix" in message:
                recipe = studio.folder.steered(recipe)
            group = studio.submit(artist.id, [recipe])
        except BadInput as error:
            return {"sentence": str(error), "field": error.field}
        except LookupError as error:
            return {"sentence": str(error), "field": ""}
        return {"group": group}

    def cancel(message: Message, request: gr.Request) -> Message:
        return cancel_on_request(studio, message, request)

    def family(message: Message, request: gr.Request) -> Message:
        artist = artist_of(studio, request)
        if artist is None:
            return {"members": []}
        try:
            found = studio.gallery.family(str(message.get("artwork", "")), artist.id)
        except LookupError:
            return {"members": []}
        return {"members": describe_family(found, artist.id)}

    return [branch, cancel, family]


def branch_of(parent: Recipe, message: Message, shelves: Shelves) -> Recipe:
    """Make the recipe that leaves `parent` before `message["step"]` (0-based) with what is changed there.

    `message["mix"]` is as for the mixing desk, or None for no styles any more; `message["mask"]` is where the
    branch may change, as `Branch.mask` has it.

    Raises:
        BadInput: with the sentence for the artist.
    """
    step = message.get("step")
    if not isinstance(step, int) or step < 0:
        raise BadInput("Choose the step of this picture that the branch leaves.", "branch")
    changed = {name: message[name] for name in _CHANGES if name in message}
    if "mix" in message:
        changed["mix"] = None if message["mix"] is None else mix_from(message["mix"], shelves)
    branch = {"parent": parent, "step": step, "mask": message.get("mask")}
    return make_recipe(**{**dict(parent), **changed, "branch": branch})


def pace_of(folder: ModelFolder, parent: Recipe, message: Message) -> Message:
    """Say what else changes where a branch goes on with other weights: steps, guidance if not by hand."""
    sampler = str(message.get("sampler", parent.sampler))
    if sampler not in folder.samplers or SAMPLERS[sampler].adapter == SAMPLERS[parent.sampler].adapter:
        return {}
    pace = folder.defaults_for(sampler)
    asked = str(message.get("guidance_scale", parent.guidance_scale)).strip()
    by_hand = asked not in (str(parent.guidance_scale), f"{parent.guidance_scale:g}")
    guidance: Message = {} if by_hand else {"guidance_scale": pace.guidance_scale}
    return {"num_inference_steps": pace.num_inference_steps, **guidance}


def describe_family(members: list[Artwork], artist_id: str) -> list[Message]:
    """Describe a family, oldest first: each member with the `parent` it left, the `step`, and its `ancestor`.

    A parent that was deleted, or is not for this artist to see, is no member: `parent` is None then, and
    `ancestor` the nearest older one that is, so that what there is stays one tree.
    """
    ids: dict[str, str] = {}
    for member in members:
        ids.setdefault(member.recipe.key, member.id)
    return [told(member, artist_id) | _descent(member, ids) for member in members]


def _descent(member: Artwork, ids: dict[str, str]) -> Message:
    branch = member.recipe.branch
    if branch is None:
        return {"parent": None, "step": None, "ancestor": None}
    older = (ids[recipe.key] for recipe in reversed(branch.parent.lineage()) if recipe.key in ids)
    parent = ids.get(branch.parent.key)
    return {"parent": parent, "step": branch.step, "ancestor": next(older, None)}
