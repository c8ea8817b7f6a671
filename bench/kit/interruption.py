"""Ctrl-C that is not lost. Python drops a KeyboardInterrupt that is raised in a callback of the interpreter, and a
compiler may catch one; so it is remembered, and raised again where a run keeps what it has."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class _Asked:
    """Whether somebody asked this process to stop."""

    once = False


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Within, an interruption is remembered. Leaves a process alone that ignores or handles them in its own way."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return

    def remember(number: int, frame: Any) -> None:
        _Asked.once = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        _Asked.once = False
        signal.signal(signal.SIGINT, signal.default_int_handler)


def heed() -> None:
    """Raises KeyboardInterrupt where somebody asked for one."""
    if _Asked.once:
        raise KeyboardInterrupt
