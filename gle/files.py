"""Files that are written whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_whole(path: Path | str, write: Callable[[BinaryIO], Any]) -> None:
    """Writes beside the file, flushes to disk, then renames: it is new as a whole, or as it was before.

    Raises OSError where the file cannot be written.
    """
    target = Path(path)
    half = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(half, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, target)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
