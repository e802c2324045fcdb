"""The API names: `/paint`, `/blend`, `/inpaint` and `/timeline`, for gradio_client, curl and other programs.

Gradio reads the types of an API from the functions themselves: no postponed annotations here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.utils import get_upload_folder

from pipelines.picture_files import picture_size
from pipelines.recipe import BadInput
from pipelines.sources import source_key
from studio.components.holes import hole_fields
from studio.components.identity import artist_of
from studio.components.mixing import mix_from
from studio.tabs.prompt_to_image import recipe_for

if TYPE_CHECKING:
    from studio.studio import Studio

_LOOK_AGAIN_S = 15.0


def add_api(studio: "Studio") -> None:
    """Add the names to the current `gr.Blocks`; a caller without an identity paints as the guest."""
    folder, defaults = studio.folder, studio.folder.defaults

    async def paint(
        request: gr.Request,
        prompt: str = "",
        negative_prompt: str = "",
        seed: int | str = -1,
        num_inference_steps: int = defaults.num_inference_steps,
        guidance_scale: float = defaults.guidance_scale,
        sampler: str = defaults.sampler,
        width: int = folder.width,
        height: int = folder.height,
    ) -> tuple[FileData, dict[str, object]]:
        """Paint one picture and wait for it: the PNG with its two text chunks, and its recipe.

        seed is from 0 to 2**64 - 1, or -1 to draw one; width and height are multiples of 8 pixels.
        """
        return await finished(
            request,
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            sampler=sampler,
            width=width,
            height=height,
        )

    async def blend(
        request: gr.Request,
        styles: dict[str, float] | list[dict[str, Any]],
        prompt: str = "",
        method: str = "conditioning",
        negative_prompt: str = "",
        seed: int | str = -1,
        num_inference_steps: int = defaults.num_inference_steps,
        guidance_scale: float = defaults.guidance_scale,
        sampler: str = defaults.sampler,
        width: int = folder.width,
        height: int = folder.height,
        steer: float = 0.0,
        follow: list[dict[str, Any]] | None = None,
        loras: dict[str, float] | None = None,
    ) -> tuple[FileData, dict[str, object]]:
        """Paint one picture in several styles and wait for it: the PNG, and its recipe.

        styles is {"ukiyo-e": 0.6, "baroque": 0.4}, or a list of {"name", "weight"} with, if wanted, a "curve"
        over the steps, a "region" and, for a style of your own, its "prompt". method is conditioning, slerp
        or prediction. steer, from 0 to 10, lets the model's style classifier push towards them. follow is
        up to three pictures whose manner is taken over: {"image": a file as gradio_client's handle_file gives
        it, "strength": from 0 to 1, and if wanted "ip_adapter": the name of one in the studio's ip_adapters
        folder, through which it is followed}. loras is {"name of a file in the studio's loras folder": from
        -2 to 2}.
        """
        artist = artist_of(studio, request) or studio.artists.guest()
        try:
            references = _followed(studio, artist.id, follow or [])
        except BadInput as error:
            raise _refusal(str(error)) from None
        return await finished(
            request,
            mix=_mixed(styles, method) | {"steer": steer, "references": references, "loras": _added(loras)},
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            sampler=sampler,
            width=width,
            height=height,
        )

    async def inpaint(
        request: gr.Request,
        image: dict[str, Any],
        mask_image: dict[str, Any] | None = None,
        prompt: str = "",
        left: int = 0,
        top: int = 0,
        right: int = 0,
        bottom: int = 0,
        styles: dict[str, float] | list[dict[str, Any]] | None = None,
        method: str = "conditioning",
        strength: float = 1.0,
        feather_px: int = 0,
        hole: str = "original",
        paste_back: bool = True,
        negative_prompt: str = "",
        seed: int | str = -1,
        num_inference_steps: int = defaults.num_inference_steps,
        guidance_scale: float = defaults.guidance_scale,
        sampler: str = defaults.sampler,
    ) -> tuple[FileData, dict[str, object]]:
        """Repaint what a mask covers, white, or let a picture grow, and wait: the PNG, and its recipe.

        image and mask_image are files, as gradio_client's handle_file gives them. Outside the mask and its
        feather every pixel stays. left, top, right and bottom are by how many pixels the picture grows; hole
        says what is begun from: original, blur, colour or noise; styles are those of /blend, for the fill.
        """
        artist = artist_of(studio, request) or studio.artists.guest()
        try:
            begun = hole_fields(
                studio,
                artist.id,
                _uploaded(image),
                _uploaded(mask_image) if mask_image else None,
                extend=(left, top, right, bottom),
                strength=strength,
                feather_px=feather_px,
                hole=hole,
                paste_back=paste_back,
            )
        except BadInput as error:
            raise _refusal(str(error)) from None
        return await finished(
            request,
            mix=_mixed(styles, method) if styles else None,
            source=begun["source"],
            width=begun["width"],
            height=begun["height"],
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            sampler=sampler,
        )

    async def finished(
        request: gr.Request, mix: dict[str, object] | None = None, **fields: object
    ) -> tuple[FileData, dict[str, object]]:
        artist = artist_of(studio, request) or studio.artists.guest()
        try:
            recipe = recipe_for(folder, **fields, mix=None if mix is None else mix_from(mix, studio.shelves))
            group = studio.submit(artist.id, [recipe])
        except BadInput as error:
            raise _refusal(str(error)) from None
        (job,) = await studio.finished(artist.id, group)
        if job.artwork is None:
            raise _refusal(job.sentence or "The picture was cancelled before it was finished.")
        return _png(job.artwork, request), recipe.model_dump(mode="json")

    async def timeline(request: gr.Request, artwork: str) -> dict[str, object]:
        """Describe the timeline of a picture: its recipe, every step's numbers, where its sheets are.

        Waits for it where the picture has only just been painted.
        """
        artist = artist_of(studio, request) or studio.artists.guest()
        try:
            studio.gallery.get(artwork, artist.id)
            if painted := studio.jobs.get(artwork):
                with studio.jobs.watch(painted.group) as watch:
                    while not studio.jobs.closed:
                        watch.clear()
                        job = studio.jobs.get(artwork)
                        if job is None or job.settled:
                            break
                        await watch.wait(_LOOK_AGAIN_S)
            return studio.timeline(artwork, artist.id)
        except (BadInput, LookupError) as error:
            raise _refusal(str(error)) from None

    gr.api(paint, api_name="paint", concurrency_limit=None)
    gr.api(blend, api_name="blend", concurrency_limit=None)
    gr.api(inpaint, api_name="inpaint", concurrency_limit=None)
    gr.api(timeline, api_name="timeline", concurrency_limit=None)


def _mixed(styles: dict[str, float] | list[dict[str, Any]], method: str) -> dict[str, object]:
    if isinstance(styles, dict):
        styles = [{"name": name, "weight": weight} for name, weight in styles.items()]
    return {"method": method, "styles": styles}


def _added(loras: dict[str, float] | None) -> list[dict[str, object]]:
    return [{"name": name, "weight": weight} for name, weight in (loras or {}).items()]


def _followed(studio: "Studio", artist_id: str, follow: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Keep the pictures that a mix follows, and name them as a recipe does."""
    references: list[dict[str, object]] = []
    for one in follow:
        content = _uploaded(one.get("image") or {})
        picture_size(content, max_pixels=studio.sources.max_pixels)
        studio.sources.keep(artist_id, content)
        followed = {name: one.get(name) for name in ("strength", "ip_adapter") if name in one}
        references.append({"strength": 1.0, **followed, "image": source_key(content)})
    return references


def _uploaded(file: dict[str, Any]) -> bytes:
    """Read a file that a client has just sent: from nowhere but the folder that uploads go to."""
    path = Path(str(file.get("path", ""))).resolve()
    if not (path.is_relative_to(Path(get_upload_folder()).resolve()) and path.is_file()):
        raise BadInput("Send picture and mask as files, as gradio_client's handle_file does.", "image")
    return path.read_bytes()


def _png(artwork: str, request: gr.Request) -> FileData:
    """Point a client to a picture under the studio's own address, which asks who is asking.

    A file that Gradio serves would be open to everybody; clients fetch from `url` what is called a stream.
    """
    base = str(request.request.base_url) if request.request else "/"
    return FileData(path=f"{artwork}.png", url=f"{base}artworks/{artwork}.png", is_stream=True)


def _refusal(sentence: str) -> gr.Error:
    # What a caller may read; the server's log does not need a traceback of it.
    return gr.Error(sentence, print_exception=False)
