"""What the site needs beyond its pages: files of the repository that pages link to, and a look at the reference at the
end. A hook of MkDocs (mkdocs.yml)."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")  # of the repository's root, which belong to the site
SHOWN = ("bench/results/**/*.png", "bench/results/**/*.html", "bench/results/**/*.json", "LICENSE", "CITATION.cff")


def on_files(files: Any, config: Any) -> Any:
    """Results, and the pages of the root, stand in the site as if docs/ were the root."""
    for path in [p for pattern in (*PAGES, *SHOWN) for p in sorted(ROOT.glob(pattern))]:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that lead out of docs/ lead to those files; README, which the site's own front page replaces, to that."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def inside(link: re.Match) -> str:
        path, mark, anchor = link[1].partition("#")
        target = posixpath.normpath(posixpath.join(folder, path))
        if target.startswith("docs/"):
            return link[0]
        if target == "README.md":
            target, mark, anchor = "index.md", "", ""
        here = posixpath.dirname(page.file.src_uri) or "."
        return f"]({posixpath.relpath(target, here)}{mark}{anchor})"

    if page.file.src_uri in PAGES:
        return re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", markdown)
    return re.sub(r"\]\((\.\./[^)\s]+)\)", inside, markdown)
