"""Paints the thumbnail of every style and mix of the palette: `python -m tests.browser.swatches`.

To be run again when the embedded model or assets/styles.toml changes.
"""

from __future__ import annotations

from PIL import Image

from pipelines.latents import to_images
from pipelines.models.find import EMBEDDED, find_model
from pipelines.models.load import load_model
from pipelines.palette import STYLES, palette, read_sheet
from pipelines.prompt_to_image import paint
from pipelines.styles import with_fragment
from studio.tabs.prompt_to_image import recipe_for

FOLDER = STYLES.parent / "styles"
SIDE_PX = 160


def main() -> None:
    """Paint each style's own example in it, square and with the model's own defaults."""
    folder = find_model(EMBEDDED)
    model = load_model(folder)
    FOLDER.mkdir(exist_ok=True)

    def keep(name: str, **fields: object) -> None:
        size = {"width": folder.width, "height": folder.height}
        recipe = recipe_for(folder, **folder.defaults.model_dump(), **size, **fields)
        (picture,) = to_images(model.decode(paint(model, recipe)))
        small = picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
        small.save(FOLDER / name, quality=84, method=6)
        print(name)

    for swatch in palette():
        keep(
            swatch.thumbnail,
            prompt=with_fragment(swatch.example, swatch.prompt),
            negative_prompt=swatch.negative_prompt,
            seed=swatch.seed,
        )
    for beginning in read_sheet().beginning:
        keep(beginning.thumbnail, prompt=beginning.prompt, mix=beginning.mix, seed=beginning.seed)


if __name__ == "__main__":
    main()
