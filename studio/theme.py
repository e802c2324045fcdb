"""The studio's colours and type in Gradio's own terms: charcoal, paper, vermilion; system fonts only."""

from __future__ import annotations

from gradio.themes import Base

_PAPER, _PAPER_DIM, _PAPER_QUIET = "#efe8dc", "#b9ae9f", "#978c7f"
_GROUND, _RAISED, _FIELD = "#161412", "#1e1b18", "#1b1816"
_HAIRLINE, _HAIRLINE_STRONG = "rgba(239, 232, 220, 0.13)", "rgba(239, 232, 220, 0.28)"
_VERMILION, _VERMILION_DEEP, _VERMILION_LIT = "#c5432b", "#b23a24", "#d24b31"
_ON_VERMILION = "#fff8ef"
_SANS = [
    "ui-sans-serif",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "Noto Sans",
    "Liberation Sans",
    "Arial",
]
_MONO = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "monospace"]

_COLOURS = {
    "body_background_fill": _GROUND,
    "body_text_color": _PAPER,
    "body_text_color_subdued": _PAPER_DIM,
    "background_fill_primary": _RAISED,
    "background_fill_secondary": _GROUND,
    "block_background_fill": "transparent",
    "block_border_color": "transparent",
    "block_border_width": "0px",
    "block_label_background_fill": "transparent",
    "block_label_text_color": _PAPER_DIM,
    "block_title_text_color": _PAPER_DIM,
    "block_title_background_fill": "transparent",
    "block_info_text_color": _PAPER_QUIET,
    "block_shadow": "none",
    "border_color_primary": _HAIRLINE,
    "border_color_accent": _VERMILION,
    "border_color_accent_subdued": _HAIRLINE_STRONG,
    "color_accent": _VERMILION,
    "color_accent_soft": "rgba(197, 67, 43, 0.18)",
    "panel_background_fill": "transparent",
    "panel_border_color": "transparent",
    "input_background_fill": _FIELD,
    "input_background_fill_focus": _FIELD,
    "input_background_fill_hover": _FIELD,
    "input_border_color": _HAIRLINE,
    "input_border_color_hover": _HAIRLINE_STRONG,
    "input_border_color_focus": _PAPER_DIM,
    "input_border_width": "1px",
    "input_placeholder_color": _PAPER_QUIET,
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "link_text_color": _PAPER,
    "link_text_color_hover": _ON_VERMILION,
    "link_text_color_active": _PAPER,
    "link_text_color_visited": _PAPER,
    "loader_color": _VERMILION,
    "error_background_fill": _RAISED,
    "error_border_color": _VERMILION,
    "error_text_color": _PAPER,
    "error_icon_color": _VERMILION_LIT,
    "button_primary_background_fill": _VERMILION,
    "button_primary_background_fill_hover": _VERMILION_DEEP,
    "button_primary_border_color": "transparent",
    "button_primary_border_color_hover": "transparent",
    "button_primary_text_color": _ON_VERMILION,
    "button_primary_text_color_hover": _ON_VERMILION,
    "button_primary_shadow": "none",
    "button_primary_shadow_hover": "none",
    "button_primary_shadow_active": "none",
    "checkbox_label_background_fill": "transparent",
    "checkbox_label_background_fill_hover": "transparent",
    "checkbox_label_background_fill_selected": "transparent",
    "checkbox_label_border_color": "transparent",
    "checkbox_label_border_color_hover": "transparent",
    "checkbox_label_border_color_selected": "transparent",
    "checkbox_label_text_color": _PAPER_DIM,
    "checkbox_label_text_color_selected": _PAPER,
    "checkbox_label_shadow": "none",
    "shadow_drop": "none",
    "shadow_drop_lg": "0 18px 50px rgba(0, 0, 0, 0.45)",
}
_SHAPES = {
    "input_radius": "6px",
    "block_radius": "6px",
    "container_radius": "6px",
    "button_large_radius": "6px",
    "block_padding": "0px",
    "form_gap_width": "0px",
    "layout_gap": "18px",
    "input_padding": "10px 12px",
    "block_title_text_size": "12.5px",
    "block_title_text_weight": "400",
    "input_text_size": "15px",
}


def atelier_theme() -> Base:
    """Build the theme. It looks the same whether the browser prefers light or dark."""
    theme = Base(font=[*_SANS, "sans-serif"], font_mono=_MONO)
    for name, value in (_COLOURS | _SHAPES).items():
        setattr(theme, name, value)
        if hasattr(theme, f"{name}_dark"):
            setattr(theme, f"{name}_dark", value)
    return theme
