"""A piece of the page of our own: its markup is here in Python, its life a module in assets/js."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import gradio as gr

# What the browser sends to a server function, and what it gets back: one JSON object each.
Message = dict[str, object]
ServerFunction = Callable[[Message, gr.Request], Message]


def scripted(
    module: str,
    markup: str,
    *,
    elem_id: str,
    events: Sequence[str] = (),
    server: Sequence[ServerFunction] = (),
    told: Mapping[str, object] | None = None,
) -> gr.HTML:
    """Build a component whose behaviour is `assets/js/<module>.js`.

    Args:
        module: exports `mount({element, trigger, props, server, watch})`, called once.
        markup: never changes afterwards, and holds nothing that an artist wrote.
        elem_id: its id in the page.
        events: names of the events it may trigger.
        server: functions its module may call; each is told who asks by the request's cookies.
        told: what the module finds in `props.told`, as JSON.
    """
    on_load = (
        f"import('/atelier/js/{module}.js').then((module) =>"
        f" module.mount({{ element, trigger, props, server, watch, events: {json.dumps(list(events))} }}))"
    )
    return gr.HTML(
        None,
        html_template=markup,
        js_on_load=on_load,
        apply_default_css=False,
        elem_id=elem_id,
        server_functions=list(server),
        told=dict(told or {}),
    )
