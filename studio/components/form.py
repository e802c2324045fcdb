"""The form's companion: says what is wrong beside a field, and fills the form from pictures and examples."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from studio.components.script import Message, scripted

_MARKUP = """
<p class="complaint" id="complaint" role="alert"></p>
<button type="button" class="examples-open">Begin from an example</button>
"""


def companion(examples: Sequence[Message]) -> gr.HTML:
    """Build it; its value is `{"sentence", "field", "at"}`; it triggers `fill` when fields are offered."""
    return scripted(
        "form",
        _MARKUP,
        elem_id="companion",
        events=["fill"],
        told={"examples": list(examples)},
    )
