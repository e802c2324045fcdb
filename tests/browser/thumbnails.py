"""Paints the thumbnail of every example that names a seed: `python -m tests.browser.thumbnails`.

To be run again when the embedded model or assets/examples.toml changes.
"""

from __future__ import annotations

from pipelines.latents import to_images
from pipelines.models.find import EMBEDDED, find_model
from pipelines.models.load import load_model
from pipelines.prompt_to_image import paint
from studio.tabs.examples import EXAMPLES, read_examples
from studio.tabs.prompt_to_image import recipe_for

FOLDER = EXAMPLES.parent / "examples"


def main() -> None:
    """Paint with the model's own defaults, as the form would after a click on the example."""
    folder = find_model(EMBEDDED)
    model = load_model(folder)
    FOLDER.mkdir(exist_ok=True)
    for example in read_examples(folder):
        image = example.pop("image")
        if image is None or example["seed"] == "-1":
            continue
        fields: dict[str, object] = {"width": folder.width, "height": folder.height}
        recipe = recipe_for(folder, **(folder.defaults.model_dump() | fields | example))
        (picture,) = to_images(model.decode(paint(model, recipe)))
        picture.save(FOLDER / str(image), quality=88, method=6)
        print(recipe.prompt)


if __name__ == "__main__":
    main()
