"""What a PNG says about itself: the widely read infotext, and the whole recipe.

`parameters` is the text that other studios and picture sites read; `atelier_recipe` is the recipe's JSON,
from which the same picture can be painted again.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from pipelines.picture_files import Picture, encode_png
from pipelines.recipe import BadInput, Recipe, read_recipe
from pipelines.styles import Mix, Reference, shares_in_words
from studio.files import write_file

INFOTEXT_CHUNK = "parameters"
RECIPE_CHUNK = "atelier_recipe"
CALLS = "Calls"

_NEGATIVE = "Negative prompt: "
_KARRAS = " Karras"
_MODEL_HASH_DIGITS = 8
# A value is quoted JSON, or runs to the next comma.
_PARAMETER = re.compile(r'\s*(\w[\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_MUST_QUOTE = re.compile(r'[,:\r\n]|^["\s]|\s$')


def infotext(recipe: Recipe, calls: str = "") -> str:
    """Write a recipe as infotext: the prompt, the negative prompt if there is one, a line of parameters.

    `calls` says by which engine, how many rows in a call, it was painted: no part of the recipe, and enough
    for the same pixels on the same machine.
    """
    lines = [recipe.prompt] if recipe.prompt else []
    if recipe.negative_prompt:
        lines.append(_NEGATIVE + recipe.negative_prompt)
    parameters = _parameters(recipe) | ({CALLS: calls} if calls else {})
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in parameters.items()))
    return "\n".join(lines)


def read_infotext(text: str) -> dict[str, str]:
    """Read infotext back: `Prompt`, `Negative prompt` and every parameter, all as text.

    A prompt that has a line beginning with "Negative prompt: " cannot be told from a negative prompt: that is
    how infotext is, and why `atelier_recipe` is what replays are painted from.
    """
    prompts, _, parameters = text.rpartition("\n")
    if prompts.startswith(_NEGATIVE):
        prompt, negative = "", prompts.removeprefix(_NEGATIVE)
    else:
        prompt, _, negative = prompts.partition("\n" + _NEGATIVE)
    found = {"Prompt": prompt, "Negative prompt": negative}
    for match in _PARAMETER.finditer(parameters):
        found[match[1]] = str(json.loads(match[2])) if match[2].startswith('"') else match[2].strip()
    return found


def _parameters(recipe: Recipe) -> dict[str, str]:
    sampler = recipe.sampler.removesuffix(_KARRAS)
    parameters = {"Steps": str(recipe.num_inference_steps), "Sampler": sampler}
    if sampler != recipe.sampler:
        parameters["Schedule type"] = _KARRAS.strip()
    if recipe.mix is not None:
        parameters |= _mix_parameters(recipe.mix)
    return parameters | {
        "CFG scale": repr(recipe.guidance_scale).removesuffix(".0"),
        "Seed": str(recipe.seed),
        "Size": f"{recipe.width}x{recipe.height}",
        "Model hash": recipe.model_revision[:_MODEL_HASH_DIGITS],
        "Model": recipe.model,
        **({"Denoising strength": repr(recipe.source.strength)} if recipe.source else {}),
        "RNG": "CPU",
        "Version": version("atelier"),
    }


def _mix_parameters(mix: Mix) -> dict[str, str]:
    parameters: dict[str, str] = {}
    if mix.felt:
        parameters = {"Styles": shares_in_words(mix.felt), "Style method": mix.method}
    if mix.followed:
        parameters["Style references"] = ", ".join(map(_reference_in_words, mix.followed))
    if mix.steer is not None and mix.steer.strength:
        parameters["Style steering"] = f"{mix.steer.strength:g}"
    if mix.added:
        parameters["LoRAs"] = ", ".join(f"{lora.name} {lora.weight:g}" for lora in mix.added)
    return parameters


def _reference_in_words(reference: Reference) -> str:
    through = f" through {reference.ip_adapter.name}" if reference.ip_adapter is not None else ""
    return f"{reference.image[:_MODEL_HASH_DIGITS]} {reference.strength:g}{through}"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if _MUST_QUOTE.search(value) else value


def png_bytes(picture: Image.Image | Picture, recipe: Recipe, calls: str = "") -> bytes:
    """Encode a picture as a PNG that carries its recipe, in these two text chunks and no other."""
    chunks = PngImagePlugin.PngInfo()
    # Pillow writes tEXt where Latin-1 is enough and iTXt (UTF-8) for every other alphabet.
    chunks.add_text(INFOTEXT_CHUNK, infotext(recipe, calls))
    chunks.add_text(RECIPE_CHUNK, recipe.model_dump_json())
    return encode_png(picture if isinstance(picture, Picture) else Picture(np.asarray(picture)), chunks)


def save_png(path: Path, picture: Image.Image | Picture, recipe: Recipe, calls: str = "") -> None:
    """Save a picture with its recipe and the calls it was painted by (`infotext`), whole or not at all.

    Raises:
        OSError: disk full and the like.
    """
    write_file(path, png_bytes(picture, recipe, calls))


def read_png_text(path: Path) -> dict[str, str]:
    """Read every text chunk of a PNG.

    Raises:
        BadInput: no such file, not a PNG, or damaged.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if not isinstance(image, PngImagePlugin.PngImageFile):
                raise BadInput(f"{path} is not a PNG.", "image")
            image.load()  # a file cut short shows itself only when its pixels are read
            return {name: str(text) for name, text in image.text.items()}
    except FileNotFoundError:
        raise BadInput(f"There is no file {path}. Give a PNG that Atelier painted.", "image") from None
    except UnidentifiedImageError:
        raise BadInput(f"{path} is not a PNG. Give a PNG that Atelier painted.", "image") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder. Give a PNG that Atelier painted.", "image") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path} is damaged and cannot be read ({error}).", "image") from None


def read_png_recipe(path: Path) -> Recipe:
    """Read the recipe that a PNG carries.

    Raises:
        BadInput: not a PNG, damaged, without a recipe, or with one that this Atelier cannot read.
    """
    text = read_png_text(path).get(RECIPE_CHUNK)
    if text is None:
        raise BadInput(
            f"{path} carries no Atelier recipe (no {RECIPE_CHUNK} chunk). Give a PNG as Atelier saved it: "
            "pictures that were sent through a chat or edited lose what they carry.",
            "image",
        )
    return read_recipe(text)


def read_png_calls(path: Path) -> str:
    """Read by which calls a picture was painted; an empty string where it does not say.

    Raises:
        BadInput: no such file, not a PNG, or damaged.
    """
    return read_infotext(read_png_text(path).get(INFOTEXT_CHUNK, "")).get(CALLS, "")
