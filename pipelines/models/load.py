"""Load a model folder onto the device accelerate finds."""

from __future__ import annotations

from safetensors import SafetensorError

from pipelines.models.find import ModelFolder
from pipelines.models.place import Placement, find_placement
from pipelines.models.sd import StableDiffusion
from pipelines.models.sdxl import StableDiffusionXL
from pipelines.recipe import BadInput

_CLASSES = {"sd": StableDiffusion, "sdxl": StableDiffusionXL}


def load_model(folder: ModelFolder, placement: Placement | None = None) -> StableDiffusion:
    """Load a model; without a placement, the device and precision are found.

    Raises:
        BadInput: when a part of the folder is missing or damaged.
    """
    try:
        return _CLASSES[folder.family](folder, placement or find_placement())
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{folder.name} cannot be loaded, a part of it is damaged: {reason}", "model"
        ) from error
