"""Find a model folder and say what it can paint, without loading it (no torch at import)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from pipelines.models.revisions import revision_of
from pipelines.recipe import BadInput, Recipe
from pipelines.samplers import SAMPLERS
from pipelines.styles import Mix

EMBEDDED = "atelier-v1"
MODELS_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "models"

Family = Literal["sd", "sdxl"]

_WEIGHTS: Mapping[Family, Mapping[str, str]] = {
    "sd": {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"},
    "sdxl": {
        "unet": "diffusion_pytorch_model",
        "vae": "diffusion_pytorch_model",
        "text_encoder": "model",
        "text_encoder_2": "model",
    },
}
_FAMILIES: Mapping[str, Family] = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionInpaintPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "StableDiffusionXLInpaintPipeline": "sdxl",
}
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_JSON_OBJECT = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class Format:
    """A picture format the model paints well; sides in pixels."""

    name: str
    width: int
    height: int


class Defaults(BaseModel):
    """What a new recipe starts from: the model's own `atelier.json`, where its folder has one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: str = "DPM++ 2M"
    num_inference_steps: int = 25
    guidance_scale: float = 7.0


class Companion(BaseModel):
    """Few-step weights beside the model's own: a LoRA of its U-Net, and the settings it was made for.

    `lora` is a safetensors file in the folder, such as diffusers or PEFT write.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lora: str
    sampler: Literal["LCM"] = "LCM"
    num_inference_steps: int = 4
    guidance_scale: float = 1.0

    @property
    def pace(self) -> Defaults:
        """The settings that a recipe for it starts from."""
        return Defaults.model_validate(self.model_dump(exclude={"lora"}))


class Classifier(BaseModel):
    """A style classifier beside a model's weights: a safetensors file in the folder, and what it tells apart.

    `revision` is the file's SHA-256. It is no part of the model's own: without steering it decides nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    styles: tuple[str, ...]
    revision: str = ""


class _Settings(Defaults):
    """The whole of `atelier.json`."""

    companion: Companion | None = None
    style_classifier: Classifier | None = None
    words: str | None = None


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A Stable Diffusion folder that can be loaded; `family` says whether it is SDXL or an earlier one.

    `revision` is the SHA-256 (64 hex digits) over its weights, those of its companion included, over the list
    of `words` that it reads as others, and in SDXL over the second tokenizer; `variant` the part of the file
    names that says their precision ("fp16" or empty), `samplers` those that follow the model's noise schedule
    and whose weights are there.
    """

    name: str
    family: Family
    path: Path
    revision: str
    variant: str
    formats: tuple[Format, ...]
    samplers: tuple[str, ...]
    defaults: Defaults
    scheduler_config: Mapping[str, JsonValue]
    companion: Companion | None = None
    classifier: Classifier | None = None
    words: Path | None = None

    @property
    def width(self) -> int:
        """Width in pixels a picture has when none is asked for."""
        return self.formats[0].width

    @property
    def height(self) -> int:
        """Height in pixels a picture has when none is asked for."""
        return self.formats[0].height

    def defaults_for(self, sampler: str | None) -> Defaults:
        """Say what a recipe with a sampler starts from: few steps with the companion's own."""
        if self.companion is not None and sampler == self.companion.sampler:
            return self.companion.pace
        return self.defaults if sampler is None else self.defaults.model_copy(update={"sampler": sampler})

    def check_sampler(self, sampler: str) -> None:
        """Refuse a sampler that does not follow this model's noise schedule, or whose weights it lacks.

        Raises:
            BadInput: naming the samplers that can be used.
        """
        if sampler not in SAMPLERS or sampler in self.samplers:
            return
        can = ", ".join(self.samplers)
        if SAMPLERS[sampler].adapter:
            raise BadInput(
                f"{sampler} paints with few-step weights of its own, and {self.name} has none beside it. "
                f"It can be painted with: {can}.",
                "sampler",
            )
        raise BadInput(
            f"{sampler} cannot follow the noise schedule of {self.name}, which ends in pure noise. "
            f"These samplers can: {can}.",
            "sampler",
        )

    def steered(self, recipe: Recipe) -> Recipe:
        """Write into a recipe which classifier steers it; one that is not steered stays as it is.

        Raises:
            BadInput: this model has no classifier, or it knows none of the styles.
        """
        mix = recipe.mix
        if mix is None or mix.steer is None or mix.steer.strength == 0:
            return recipe
        if self.classifier is None:
            raise BadInput(
                f"{self.name} has no style classifier beside it, so nothing can steer: set steering to 0.",
                "mix",
            )
        if not any(style.name in self.classifier.styles for style in mix.felt):
            raise BadInput(
                f"Steering knows {', '.join(self.classifier.styles)}: put one of them in the mix, or set "
                "steering to 0.",
                "mix",
            )
        steer = mix.steer.model_copy(update={"classifier": self.classifier.revision})
        return recipe.model_copy(update={"mix": mix.model_copy(update={"steer": steer})})

    def check_classifier(self, mix: Mix) -> None:
        """Refuse a mix that was steered by another classifier than this model's.

        Raises:
            BadInput: saying so.
        """
        steer = mix.steer
        if steer is None or steer.strength == 0:
            return
        if self.classifier is None or steer.classifier not in ("", self.classifier.revision):
            raise BadInput(
                f"This picture is steered by a style classifier ({steer.classifier[:8] or 'unnamed'}) that "
                f"{self.name} does not have: it would differ. Set steering to 0, or mix it anew.",
                "mix",
            )


def find_model(name_or_path: str, folders: Sequence[Path] = ()) -> ModelFolder:
    """Find a model by the name of its folder or by its path.

    Args:
        name_or_path: a path, or a name looked for in `folders`, then among the embedded models.
        folders: where else models are kept.

    Raises:
        BadInput: no such folder, not a Stable Diffusion folder, or its weights are pickles.
    """
    shelves = [*folders, MODELS_FOLDER]
    candidates = [Path(name_or_path).expanduser(), *(shelf / name_or_path for shelf in shelves)]
    path = next((candidate for candidate in candidates if candidate.exists()), None)
    if path is None:
        known = [entry.name for shelf in shelves if shelf.is_dir() for entry in _models_in(shelf)]
        choice = f"known here: {', '.join(sorted(known))}" if known else "none is installed"
        raise BadInput(
            f"There is no model called {name_or_path} ({choice}). Give one of these or the path of a "
            "Stable Diffusion folder.",
            "model",
        )
    return read_model_folder(path.resolve())


def list_models(folders: Sequence[Path] = ()) -> list[Path]:
    """List the model folders kept in `folders` and among the embedded models."""
    return [entry for shelf in [*folders, MODELS_FOLDER] if shelf.is_dir() for entry in _models_in(shelf)]


def _models_in(shelf: Path) -> list[Path]:
    return sorted(entry.parent for entry in shelf.glob("*/model_index.json"))


def read_model_folder(path: Path) -> ModelFolder:
    """Check a folder in diffusers' Stable Diffusion layout and read what it can paint.

    Raises:
        BadInput: with the reason it cannot be used.
    """
    if path.is_file():
        kind = "a pickle, which can run any program" if path.suffix in PICKLES else "a single file"
        raise BadInput(
            f"{path} is {kind}; Atelier reads Stable Diffusion folders with safetensors weights. "
            "Convert it with diffusers' convert_original_stable_diffusion_to_diffusers.py.",
            "model",
        )
    index = _read_json(path / "model_index.json")
    family = _family(path.name, index)
    parts = [weight_files(path, part, stem) for part, stem in _WEIGHTS[family].items()]
    files = [file for _, shards in parts for file in shards]
    variants = {variant for variant, _ in parts}
    if len(variants) > 1:
        raise BadInput(f"{path.name} mixes weights of several precisions: {sorted(variants)}.", "model")
    scheduler_config = _read_json(path / "scheduler" / "scheduler_config.json")
    zero_snr = scheduler_config.get("rescale_betas_zero_snr") is True
    settings = _read_settings(path / "atelier.json")
    companion = settings.companion
    lora = [_beside(path, companion.lora, "few-step weights")] if companion else []
    classifier = settings.style_classifier
    if classifier is not None:
        weights = _beside(path, classifier.weights, "style classifier")
        classifier = classifier.model_copy(update={"revision": revision_of([weights])})
    words = _beside(path, settings.words, "list of words", ".tsv") if settings.words else None
    if words is not None and family == "sdxl":
        raise BadInput(f"{path.name} reads prompts with two encoders: it can have no list of words.", "model")
    further = [*lora, *([words] if words else [])]
    return ModelFolder(
        name=path.name,
        family=family,
        path=path,
        revision=revision_of([*files, *(_second_tokenizer(path) if family == "sdxl" else ()), *further]),
        variant=variants.pop(),
        formats=_formats(path, family),
        samplers=tuple(
            name
            for name, sampler in SAMPLERS.items()
            if (sampler.follows_zero_snr or not zero_snr) and (companion is not None or not sampler.adapter)
        ),
        defaults=Defaults.model_validate(
            settings.model_dump(exclude={"companion", "style_classifier", "words"})
        ),
        scheduler_config=scheduler_config,
        companion=companion,
        classifier=classifier,
        words=words,
    )


def _family(name: str, index: Mapping[str, JsonValue]) -> Family:
    """Tell a folder's family by its model_index.json."""
    class_name = index.get("_class_name")
    family = _FAMILIES.get(class_name) if isinstance(class_name, str) else None
    if family is None:
        raise BadInput(
            f"{name} is a {class_name}; this Atelier paints with {', '.join(_FAMILIES)} folders "
            "(Stable Diffusion 1.x, 2.x, XL and its own).",
            "model",
        )
    if family == "sdxl" and index.get("text_encoder") in (None, [None, None]):
        raise BadInput(
            f"{name} has no first text encoder: it is an SDXL refiner, which finishes pictures that another "
            "model began. Give the folder of an SDXL base model.",
            "model",
        )
    return family


def _read_settings(file: Path) -> _Settings:
    try:
        return _Settings.model_validate_json(file.read_bytes()) if file.exists() else _Settings()
    except ValidationError as error:
        raise BadInput(f"{file} is damaged: {error.errors()[0]['msg']}.", "model") from None


def _beside(path: Path, name: str, what: str, suffix: str = ".safetensors") -> Path:
    """Return a further file that a folder's atelier.json names."""
    file = path / name
    if file.suffix != suffix or not file.is_file():
        raise BadInput(
            f"{path.name} lacks the {what} that its atelier.json names: {name} must be a {suffix[1:]} file "
            "in its folder.",
            "model",
        )
    return file


def _read_json(file: Path) -> dict[str, JsonValue]:
    try:
        return _JSON_OBJECT.validate_json(file.read_bytes())
    except FileNotFoundError:
        raise BadInput(
            f"{file.parent} is not a Stable Diffusion folder: it has no {file.name}. A folder saved by "
            "diffusers' save_pretrained has model_index.json, unet, vae, text_encoder, tokenizer and "
            "scheduler.",
            "model",
        ) from None
    except ValidationError:
        raise BadInput(f"{file} is damaged: it is not a JSON object.", "model") from None


def weight_files(path: Path, part: str, stem: str) -> tuple[str, list[Path]]:
    """Return the variant of one part, full precision before others, and its safetensors files.

    Raises:
        BadInput: there are none, or they are pickles.
    """
    shards: dict[str, list[Path]] = {}
    for file in sorted((path / part).glob(f"{stem}*.safetensors")):
        name = re.fullmatch(rf"{stem}(?:\.(.+?))?(?:-\d+-of-\d+)?\.safetensors", file.name)
        if name:
            shards.setdefault(name[1] or "", []).append(file)
    if shards:
        return min(shards.items(), key=lambda item: len(item[0]))
    pickles = [file for file in sorted((path / part).glob("*")) if file.suffix in PICKLES]
    if pickles:
        raise BadInput(
            f"{path.name} holds its weights as a pickle ({part}/{pickles[0].name}), and a pickle can run any "
            "program when it is opened. Atelier loads safetensors only: save the model again with "
            "safe_serialization=True.",
            "model",
        )
    raise BadInput(f"{path.name} has no weights in {part} ({stem}.safetensors is missing).", "model")


def _second_tokenizer(path: Path) -> list[Path]:
    files = [file for file in sorted((path / "tokenizer_2").glob("*")) if file.is_file()]
    if not files:
        raise BadInput(f"{path.name} has no tokenizer_2, which an SDXL model reads prompts with.", "model")
    return files


def _formats(path: Path, family: Family) -> tuple[Format, ...]:
    """Three formats of about equal area: square, 7 to 5 landscape, 5 to 7 portrait.

    SDXL's are among those that it was trained at (1024, 1216 by 832), in steps of a sixteenth of its side.
    """
    sample_size = _read_json(path / "unet" / "config.json").get("sample_size")
    levels = _read_json(path / "vae" / "config.json").get("block_out_channels")
    if not isinstance(sample_size, int) or not isinstance(levels, list):
        raise BadInput(
            f"{path.name} does not say its picture size (sample_size in unet/config.json).", "model"
        )
    side = sample_size * 2 ** (len(levels) - 1)
    step = max(8, side // 16) if family == "sdxl" else 8
    long, short = (round(side * ratio / step) * step for ratio in (7 / 6, 5 / 6))
    return (
        Format("Square", side, side),
        Format("Landscape", long, short),
        Format("Portrait", short, long),
    )
