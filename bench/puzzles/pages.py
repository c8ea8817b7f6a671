"""Pages that need nothing besides themselves: a template of this folder, with what it shows."""

from __future__ import annotations

import html
import importlib.resources
import json
import re
from typing import Any


def page(template: str, title: str, data: Any, **texts: str) -> str:
    """The template with the title where it says @@TITLE@@, the data as JSON at @@DATA@@, and texts at their names."""
    found = (importlib.resources.files("bench.puzzles") / template).read_text("utf-8")
    texts |= {"TITLE": html.escape(title), "DATA": json.dumps(data).replace("<", "\\u003c")}  # nothing ends the script
    return re.sub("@@([A-Z]+)@@", lambda place: texts[place[1]], found)
