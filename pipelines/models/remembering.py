"""Keep what was encoded last: artists paint the same words again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

Model = TypeVar("Model")
Encoded = TypeVar("Encoded")

# Of Stable Diffusion 1.5, a pair of prompts is half a megabyte.
_REMEMBERED = 32


def remembered(
    encode: Callable[[Model, Sequence[str]], Encoded],
) -> Callable[[Model, Sequence[str]], Encoded]:
    """Have a model's method that encodes prompts remember its last answers, which nobody may change."""
    known: WeakKeyDictionary[Model, OrderedDict[tuple[str, ...], Encoded]] = WeakKeyDictionary()

    @wraps(encode)
    def encode_or_remember(model: Model, prompts: Sequence[str]) -> Encoded:
        answers = known.setdefault(model, OrderedDict())
        key = tuple(prompts)
        answer = answers.pop(key, None)
        if answer is None:
            answer = encode(model, prompts)
        answers[key] = answer
        while len(answers) > _REMEMBERED:
            answers.popitem(last=False)
        return answer

    return encode_or_remember
