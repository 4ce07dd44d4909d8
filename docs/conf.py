"""The manual as a site: Sphinx reads the same Markdown pages that people read in the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent

project = "Towpath"
project_copyright = "the Towpath developers"
extensions = ["myst_parser"]
exclude_patterns = ["pictures"]
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
nitpicky = True
html_theme = "furo"
html_title = "Towpath"
html_static_path = ["pictures"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": True}

_FROM_ROOT = {"architecture": "ARCHITECTURE.md", "reporting": "SECURITY.md", "contributing": "CONTRIBUTING.md"}
"""Pages of the site whose text stands in the root of the repository."""
_LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<path>(?:\.\./)?[\w./-]+)(?P<anchor>#[\w-]+)?\)")


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links into the repository become links between pages of the site; other files are named by their path."""
    del app
    folder = ROOT / "docs"
    if docname in _FROM_ROOT:
        folder = ROOT
        source[0] = (ROOT / _FROM_ROOT[docname]).read_text()
    pages = {(ROOT / file).resolve(): f"{page}.md" for page, file in _FROM_ROOT.items()}

    def here(found: re.Match[str]) -> str:
        path, anchor = (folder / found["path"]).resolve(), found["anchor"] or ""
        if path in pages:
            return f"[{found['text']}]({pages[path]}{anchor})"
        if path.is_relative_to(ROOT / "docs"):
            return f"[{found['text']}]({path.relative_to(ROOT / 'docs')}{anchor})"
        return f"{found['text']} (`{path.relative_to(ROOT)}`)"

    source[0] = _LINK.sub(here, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this once."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
