"""The command line's options: those of every command that paints, and those of a studio."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from pipelines.models.find import EMBEDDED, ModelFolder
from pipelines.picture_files import BOMB_PIXELS, MAX_BYTES, MAX_PIXELS
from pipelines.recipe import Recipe
from studio.settings import Settings, default_data_dir
from studio.to_files import Beginning, recipe_maker

DataDir = Annotated[
    Path | None, typer.Option(help="Where pictures are kept [default: ~/.local/share/atelier].")
]
ModelName = Annotated[str, typer.Option(help="A model's name, or the path of a Stable Diffusion folder.")]
Loras = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A folder of LoRAs (safetensors), beside loras/ in the data directory."),
]
IPAdapters = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A folder of IP-Adapters with their image encoder, beside ip_adapters/ in the data directory.",
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic", help="One size of call and torch's own only: a seed is the same in a busy studio."
    ),
]
Output = Annotated[Path, typer.Option(help="The PNG to write.")]
# Numbers arrive as text, so that the recipe's own sentences answer for them.
Number = Annotated[str | None, typer.Option(metavar="NUMBER")]
Image = Annotated[Path | None, typer.Option(help="A picture to begin from.")]
Strength = Annotated[
    str, typer.Option(metavar="NUMBER", help="How much of the schedule is painted over --image.")
]
Grow = Annotated[str, typer.Option(metavar="PX", help="Let the picture grow to this side.")]
Styles = Annotated[
    list[str] | None, typer.Option(metavar="NAME=WEIGHT", help="A style of the palette; once for each.")
]
Method = Annotated[str, typer.Option(help="conditioning, slerp or prediction.")]


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """What every command that paints asks for; what is None is as the model has it."""

    negative_prompt: Annotated[str, typer.Option(help="What the picture should keep away from.")] = ""
    seed: Annotated[str, typer.Option(metavar="NUMBER", help="-1 draws one.")] = "-1"
    num_inference_steps: Number = None
    guidance_scale: Number = None
    width: Number = None
    height: Number = None
    sampler: Annotated[str | None, typer.Option(help="As in the studio: DPM++ 2M, Euler a, …")] = None
    model: ModelName = EMBEDDED
    timeline: Annotated[Path | None, typer.Option(help="Keep every step in this folder.")] = None

    def recipes(self, folder: ModelFolder, begun: Beginning) -> Callable[..., Recipe]:
        """Return what makes recipes of these options, in the size that suits what they begin from."""
        return recipe_maker(
            folder,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            width=begun.width if self.width is None else self.width,
            height=begun.height if self.height is None else self.height,
            sampler=self.sampler,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            source=begun.source,
        )


@dataclass(frozen=True, kw_only=True)
class StudioOptions:
    """What a studio is opened with."""

    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 7860
    data_dir: DataDir = None
    model: ModelName = EMBEDDED
    timeline_budget: Annotated[
        float,
        typer.Option(
            metavar="GB",
            min=0,
            help="What one artist's timelines may take on the disk; the oldest unpinned ones are dropped "
            "first.",
        ),
    ] = 4
    max_megapixels: Annotated[
        float,
        typer.Option(
            metavar="MILLION",
            min=0.01,
            max=BOMB_PIXELS / 1e6,
            help="How many million pixels a picture may have that an artist brings.",
        ),
    ] = MAX_PIXELS / 1e6
    max_megabytes: Annotated[
        float, typer.Option(metavar="MB", min=0.01, help="How large the file of such a picture may be.")
    ] = MAX_BYTES / 1e6
    deterministic: Deterministic = False
    loras: Loras = None
    ip_adapters: IPAdapters = None

    @property
    def settings(self) -> Settings:
        """The same as the studio reads it."""
        return Settings(
            host=self.host,
            port=self.port,
            data_dir=self.data_dir or default_data_dir(),
            model=self.model,
            timeline_budget_bytes=round(self.timeline_budget * 10**9),
            max_source_pixels=round(self.max_megapixels * 10**6),
            max_source_bytes=round(self.max_megabytes * 10**6),
            deterministic=self.deterministic,
            loras=self.loras,
            ip_adapters=self.ip_adapters,
        )


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer, which knows no groups of options, see the fields of a command's dataclasses one by one."""
    signature = inspect.signature(command, eval_str=True)
    parameters = signature.parameters.values()

    @wraps(command)
    def gathering(**given: Any) -> None:
        for parameter in parameters:
            if isinstance(kind := parameter.annotation, type) and is_dataclass(kind):
                own = {field.name: given.pop(field.name) for field in fields(kind)}
                given[parameter.name] = kind(**own)
        command(**given)

    spread = [one for parameter in parameters for one in _fields_of(parameter)]
    vars(gathering)["__signature__"] = signature.replace(parameters=spread)
    return gathering


def _fields_of(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """Return a dataclass parameter's fields as parameters; any other one as it is."""
    kind = parameter.annotation
    if not is_dataclass(kind):
        return [parameter]
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
    ]
