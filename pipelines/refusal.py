"""What an artist asked for cannot be done, in the sentence she reads."""

from __future__ import annotations


class BadInput(ValueError):
    """What an artist asked for cannot be done; the message is the sentence she reads.

    `field` names the `Recipe` field it is about, or is empty.
    """

    def __init__(self, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.field = field
