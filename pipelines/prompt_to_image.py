"""Prompt to image: a recipe becomes a denoising run, from noise, a picture or a step of another's run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pipelines.denoising import (
    Frame,
    Known,
    Leg,
    Rows,
    Run,
    denoise,
    from_alpha_space,
    leg_at,
    schedule_sigmas,
    step_to,
    to_alpha_space,
)
from pipelines.following import Following
from pipelines.guidance import Composition, Guidance
from pipelines.inpainting import Canvas, begin_canvas
from pipelines.models.adapters import Weights
from pipelines.models.sd import StableDiffusion
from pipelines.recipe import BadInput, Recipe
from pipelines.references import Referred
from pipelines.samplers import SAMPLERS, Scheduler, make_scheduler
from pipelines.sources import OpenSource, no_sources
from pipelines.steering import steering_of
from pipelines.style_blending import guidance_of, region_map


@dataclass(slots=True)
class _Stretch:
    """The part of a run that one scheduler takes: legs of one sampler and number of steps.

    `first` is the position of its own schedule it begins at, `stop` the one it is left at.
    """

    recipe: Recipe
    scheduler: Scheduler
    legs: list[Leg] = field(default_factory=list[Leg])
    first: int = 0
    stop: int = 0

    @property
    def length(self) -> int:
        return self.stop - self.first

    def guidance_at(self, position: int) -> Guidance | Composition | Referred:
        return leg_at(self.legs, position).guidance_at(position, len(self.scheduler.timesteps))


def prompt_to_image(
    model: StableDiffusion,
    recipe: Recipe,
    known: Sequence[Known] = (),
    open_source: OpenSource = no_sources,
) -> Run:
    """Make the denoising run of a recipe; nothing is predicted until it is driven.

    A branch takes its parent's steps up to the branching step with the parent's prompt, guidance and noise,
    then goes on with its own. Of the parent's steps, those in `known` are not predicted again. With another
    sampler or number of steps, the position of the new schedule that is nearest in noise takes over. With a
    mask it follows its parent outside it, so that all of the parent's steps are of use in `known`. A recipe
    with a source begins from it, at the position that its strength chooses.

    Raises:
        BadInput: a sampler does not follow the model's noise schedule, the parent has no such step, or the
            source or a LoRA is gone or damaged.
    """
    own = known if recipe.branch is None else known[: recipe.branch.step]
    return _life(model, recipe, own, known, open_source)


def _life(
    model: StableDiffusion,
    recipe: Recipe,
    own: Sequence[Known],
    parents: Sequence[Known],
    open_source: OpenSource,
) -> Run:
    """Make a run of which the steps `own` are known, and of the run that it left the steps `parents`."""
    stretches = _stretches(model, recipe, parents, open_source)
    opening = stretches[0]
    latents, canvas = begin_canvas(
        model, recipe, opening.scheduler, opening.legs[0].generator, open_source, first=opening.first
    )
    return _run(stretches, latents, own, canvas)


@dataclass(frozen=True, slots=True)
class Asked:
    """What which network was asked at one step of a run; `canvas` is what it saw beside x_t, if any."""

    guidance: Guidance | Composition | Referred
    weights: Weights
    canvas: Canvas | None


def asked_of(model: StableDiffusion, recipe: Recipe, open_source: OpenSource = no_sources) -> list[Asked]:
    """Tell what a recipe's run asks at every step, from its first ancestor's on.

    Raises:
        BadInput: as `prompt_to_image`; the source is opened only for a network that sees it.
    """
    stretches = _stretches(model, recipe, (), open_source)
    first = stretches[0]
    canvas = None
    if model.sees_mask:
        generator = torch.Generator("cpu").manual_seed(recipe.lineage()[0].seed)
        _, canvas = begin_canvas(model, recipe, first.scheduler, generator, open_source, first=first.first)
    return [
        Asked(stretch.guidance_at(position), leg_at(stretch.legs, position).weights, canvas)
        for stretch in stretches
        for position in range(stretch.first, stretch.stop)
    ]


def _stretches(
    model: StableDiffusion, recipe: Recipe, parents: Sequence[Known], open_source: OpenSource
) -> list[_Stretch]:
    """Lay out the whole life of a picture: its ancestors' parts, then its own."""
    stretches: list[_Stretch] = []
    taken = 0  # steps of the whole run before the present recipe's own
    seed: int | None = None
    for member in recipe.lineage():
        model.folder.check_sampler(member.sampler)
        guidance, steering = guidance_of(model, member, open_source), steering_of(model, member)
        if member.branch is not None:
            taken = member.branch.step
            _cut(stretches, taken)
        last = stretches[-1] if stretches else None
        # The same seed goes on drawing from where its parent's noise was left.
        generator = (
            last.legs[-1].generator
            if last is not None and member.seed == seed
            else torch.Generator("cpu").manual_seed(member.seed)
        )
        seed = member.seed
        if last is None or _schedule_of(member) != _schedule_of(last.recipe):
            scheduler = make_scheduler(member.sampler, model.folder.scheduler_config)
            # On the CPU, whatever paints: a sampler looks its timesteps up at every step.
            scheduler.set_timesteps(member.num_inference_steps, device=torch.device("cpu"))
            first = _first_position(scheduler, member) if last is None else _nearest_position(scheduler, last)
            if first and not SAMPLERS[member.sampler].begins_midway:
                raise BadInput(
                    f"{member.sampler} cannot take over in the middle of a run; keep the picture's own "
                    "sampler or choose another.",
                    "sampler",
                )
            last = _Stretch(member, scheduler, first=first, stop=first)
            stretches.append(last)
        known = parents if member is recipe else ()
        following = _following(model, member, last, known, open_source)
        weights = model.adapters.weights(SAMPLERS[member.sampler].adapter, member.loras)
        last.legs.append(Leg(last.stop, guidance, generator, weights, steering, following))
        last.stop = len(last.scheduler.timesteps)
    return stretches


def _following(
    model: StableDiffusion, member: Recipe, own: _Stretch, known: Sequence[Known], open_source: OpenSource
) -> Following | None:
    """Make what holds a branch to its parent outside its mask; None where all of it is free."""
    branch = member.branch
    if branch is None or branch.mask is None:
        return None
    factor = model.vae_scale_factor
    mask = region_map(branch.mask, member.height // factor, member.width // factor).to(model.device)
    return Following(
        lambda: _life(model, branch.parent, known, (), open_source),
        mask,
        own.stop,
        schedule_sigmas(own.scheduler),
        SAMPLERS[member.sampler].space,
    )


def _first_position(scheduler: Scheduler, recipe: Recipe) -> int:
    """Find where the schedule is begun: at its first position, or at the one a source's strength chooses."""
    return scheduler.order * recipe.source.first_step(recipe.num_inference_steps) if recipe.source else 0


def _schedule_of(recipe: Recipe) -> tuple[str, int]:
    return recipe.sampler, recipe.num_inference_steps


def _cut(stretches: list[_Stretch], step: int) -> None:
    """Leave a run at step `step` of its whole: later stretches and legs are not taken."""
    whole = sum(stretch.length for stretch in stretches)
    if step >= whole:
        raise BadInput(
            f"The picture it leaves has steps 0 to {whole - 1}. There is no step {step}.", "branch"
        )
    while len(stretches) > 1 and step <= whole - stretches[-1].length:
        whole -= stretches.pop().length
    last = stretches[-1]
    last.stop -= whole - step
    last.legs = [leg for leg in last.legs if leg.start <= last.stop]


def _nearest_position(scheduler: Scheduler, left: _Stretch) -> int:
    """Find where a new schedule takes over from a stretch that was left."""
    sigma = schedule_sigmas(left.scheduler)[left.stop]
    sigmas = schedule_sigmas(scheduler)
    # A sampler of second order is between two steps at every second position only.
    return min(range(0, len(sigmas), scheduler.order), key=lambda position: abs(sigmas[position] - sigma))


def _run(stretches: list[_Stretch], latents: Tensor, known: Sequence[Known | Frame], canvas: Canvas) -> Run:
    steps = sum(stretch.length for stretch in stretches)
    done = 0
    frame: Frame | None = None
    leg = stretches[-1].legs[-1]
    taken_over = steps - (stretches[-1].stop - leg.start)
    if leg.following is not None and len(known) < taken_over:
        known = yield from leg.following.known(taken_over)
    for stretch in stretches:
        space = SAMPLERS[stretch.recipe.sampler].space
        if frame is not None:
            sigma = schedule_sigmas(stretch.scheduler)[stretch.first]
            latents = from_alpha_space(step_to(frame, sigma), sigma, space)
        elif stretch is not stretches[0]:
            # The parent was left before its first step: its beginning, at the new scheduler's scale.
            latents = _rescaled(latents, stretches[0], stretch)
        run = denoise(
            stretch.scheduler,
            space,
            stretch.legs,
            latents,
            first=stretch.first,
            known=known[done:],
            canvas=replace(canvas, begin=_first_position(stretch.scheduler, stretch.recipe)),
        )
        answer: Tensor | None = None
        taken = 0
        while taken < stretch.length:
            event = run.send(answer)
            answer = None
            if isinstance(event, Frame):
                frame = event
                if (event.step, event.steps) != (done + taken, steps):
                    event = replace(event, step=done + taken, steps=steps)
                yield event
                taken += 1
            else:
                answer = yield event
        done += taken
        if done < steps:
            run.close()
            continue
        try:
            run.send(None)
        except StopIteration as end:
            final: Tensor = end.value
            return final
    raise AssertionError("the last stretch ends the run")


def _rescaled(latents: Tensor, before: _Stretch, after: _Stretch) -> Tensor:
    if before.first == 0:
        return latents / before.scheduler.init_noise_sigma * after.scheduler.init_noise_sigma
    old, new = (schedule_sigmas(stretch.scheduler)[stretch.first] for stretch in (before, after))
    noisy = to_alpha_space(latents, old, SAMPLERS[before.recipe.sampler].space)
    return from_alpha_space(noisy, new, SAMPLERS[after.recipe.sampler].space)


@torch.inference_mode()
def paint(
    model: StableDiffusion,
    recipe: Recipe,
    on_frame: Callable[[Frame], object] | None = None,
    known: Sequence[Known] = (),
    open_source: OpenSource = no_sources,
    predict: Callable[[Rows], Tensor] | None = None,
) -> Tensor:
    """Drive one run alone, from its beginning to the final latents (1, C, h, w).

    Its rows are answered by the model as they are, or by `predict`.
    """
    run = prompt_to_image(model, recipe, known, open_source)
    ask = predict or model.predict
    answer: Tensor | None = None
    while True:
        try:
            event = run.send(answer)
        except StopIteration as end:
            latents: Tensor = end.value
            return latents
        answer = None
        if isinstance(event, Frame):
            if on_frame:
                on_frame(event)
        else:
            answer = ask(event)
