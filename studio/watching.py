"""Wakes a coroutine when a thread has news."""

from __future__ import annotations

import asyncio
import logging

log = logging.getLogger(__name__)


class Watch:
    """Wakes one coroutine when a job changes. Clear, look, then wait: nothing is missed in between."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Wake the coroutine, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            log.debug("a watch outlived its event loop")

    def clear(self) -> None:
        """Forget earlier changes: what is looked at now includes them."""
        self._event.clear()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a change; False when none came in time."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return False
        return True
