"""The page: its tabs on one ground, and the API names that drive the studio from outside.

Nothing heavy is imported here: the page is served while the model still loads.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from fastapi import FastAPI

from studio.api import add_api
from studio.components.header import header
from studio.tabs import denoising, gallery, inpainting, prompt_to_image, style_blending
from studio.theme import atelier_theme

if TYPE_CHECKING:
    from studio.studio import Studio

_TITLE = "Atelier"
_STYLES = (
    "ground",
    "fields",
    "stage",
    "sketching",
    "blend",
    "mix",
    "follow",
    "overtime",
    "inpaint",
    "masks",
    "film",
    "timeline",
    "curves",
    "layers",
    "formula",
    "dissolve",
    "takeaway",
    "branch",
    "only",
    "family",
    "compare",
    "gallery",
    "dialogs",
    "keeping",
    "ensemble",
)
_SCRIPTS = Path(__file__).resolve().parents[1] / "assets" / "js"
_SEAL = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>"
    "<rect x='2' y='2' width='28' height='28' rx='5' fill='#c5432b'/>"
    "<path d='M9.5 24 16 7l6.5 17M12 18.5h8' fill='none' stroke='#fff8ef' stroke-width='2.4'/></svg>"
)


def build_page(studio: Studio) -> gr.Blocks:
    """Build all tabs; which artist an event is about is read from the request's cookies."""
    with gr.Blocks(title=_TITLE, analytics_enabled=False, fill_width=True) as page:
        header(studio)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Prompt to image", elem_id="prompt-to-image", render_children=True):
                prompt_to_image.build(studio)
            with gr.Tab("Style blending", elem_id="style-blending", render_children=True):
                style_blending.build(studio)
            with gr.Tab("Inpainting", elem_id="inpainting", render_children=True):
                inpainting.build(studio)
            with gr.Tab("Denoising", elem_id="denoising", render_children=True):
                denoising.build(studio)
            with gr.Tab("Gallery", elem_id="gallery", render_children=True):
                gallery.build(studio)
        add_api(studio)
    # One artist's call must not wait for another's: all handlers are short, and /paint only awaits.
    page.queue(default_concurrency_limit=None)
    return page


def mount_page(app: FastAPI, studio: Studio) -> FastAPI:
    """Mount the page at "/", after the studio's own routes."""
    return gr.mount_gradio_app(
        app,
        build_page(studio),
        path="/",
        theme=atelier_theme(),
        head=_head(),
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
    )


def _head() -> str:
    icon = escape("data:image/svg+xml," + _SEAL.replace("#", "%23"), quote=True)
    links = [
        f'<link rel="icon" href="{icon}">',
        '<meta name="color-scheme" content="dark">',
        *(f'<link rel="stylesheet" href="/atelier/css/{style}.css">' for style in _STYLES),
        *(
            f'<link rel="modulepreload" href="/atelier/js/{module.name}">'
            for module in sorted(_SCRIPTS.glob("*.js"))
        ),
    ]
    return "\n".join(links)
