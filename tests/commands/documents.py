"""What the documents tell a user to type: commands, switches to add to them, and the figures that they made."""

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "configs").rglob("*.yaml"))
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
TYPED = r"(?:python -m bench\.|torchrun )"
ANY = re.compile(r"python -m bench\.(?:…|<name>)$")  # of no command in particular


def typed(text: str) -> set[str]:
    """Commands at the beginning of a line, of code blocks and docstrings; a comment follows after two spaces."""
    lines = re.findall(rf"^ *({TYPED}.*)$", text, re.MULTILINE)
    return {re.split(r" {2,}|\s+#", line)[0] for line in lines}


def inline(text: str) -> set[str]:
    """Commands, and switches, in code within a sentence; it may be broken over lines."""
    codes = (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCED.sub("", text)))
    return {code for code in codes if re.match(rf"{TYPED}|--\w", code)}


def listed(text: str) -> set[str]:
    """Commands in tables under the heading `python -m bench.…`, which it begins."""
    tables = re.findall(r"^\| `(python -m bench\.)…` \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return {start + name for start, rows in tables for name in re.findall(r"^\| `([^`]+)`", rows, re.MULTILINE)}


def of_text(text: str) -> set[str]:
    found = typed(text) | inline(text) | listed(text)
    return {command for command in found if not ANY.match(command)}


def of_docstring(path: Path) -> set[str]:
    text = textwrap.dedent(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
    return {command for command in typed(text) if not ANY.match(command)}


def of_makefile() -> set[str]:
    return set(re.findall(r"\)/(python -m bench\..*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def documented() -> dict[str, list[str]]:
    """Each command, or switches, and the files that name it. A file of options that none of them names counts as the
    command that takes it."""
    found: dict[str, list[str]] = {}
    sources = [(p, of_text(p.read_text("utf-8"))) for p in DOCUMENTS]
    sources += [(p, of_docstring(p)) for p in sorted((ROOT / "bench").rglob("*.py"))]
    sources.append((ROOT / "Makefile", of_makefile()))
    for path, commands in sources:
        for command in commands:
            found.setdefault(command, []).append(path.relative_to(ROOT).as_posix())
    for config in CONFIGS:
        if not any(config in command.split() and "bench" in command for command in found):
            found[f"python -m bench.{Path(config).parent.name} --config {config}"] = [config]
    return found


def figures() -> list[tuple[str, str, set[str]]]:
    """(document, figure, commands in its paragraph) of each figure that a document shows, but for those that its own
    code draws (tests/docs)."""
    out = []
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for paragraph in re.split(r"\n\s*\n", FENCED.sub("", text)):
            for figure in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", paragraph):
                if f'savefig("{figure}")' in text:
                    continue
                out.append((path.relative_to(ROOT).as_posix(), figure, inline(paragraph)))
    return out
