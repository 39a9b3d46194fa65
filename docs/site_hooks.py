"""What MkDocs does not do by itself for pages that are also read on GitHub.

Chapters in docs/tutorial/ get into the navigation in the order of their names. CONTRIBUTING.md and
its like, which lie beside docs/, become pages of the site. A link to any other file outside of
docs/ becomes plain text, since the site has no such file. (MkDocs calls the functions by name.)
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
TOP_PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
FRONT_PAGE = "README.md"
LINK = re.compile(
    r"\[((?:[^\]\[]|\[[^\]]*\])*)\]\((\.\./[^()\s]*|[A-Z]+\.md[^()\s]*|docs/[^()\s]+)\)"
)


def on_config(config: Any) -> Any:
    """Replaces folders in the navigation by their pages; what is not there is left out."""
    docs, nav = Path(config.docs_dir), []
    for entry in config.nav:
        ((title, target),) = entry.items()
        if isinstance(target, str) and target.endswith("/"):
            target = [
                page.relative_to(docs).as_posix() for page in sorted(docs.glob(target + "*.md"))
            ]
        if isinstance(target, list):
            target = [item for item in target if _exists(item, docs)]
        if target:
            nav.append({title: target})
    config.nav = nav
    return config


def _exists(item: Any, docs: Path) -> bool:
    page = item if isinstance(item, str) else next(iter(item.values()))
    return page in TOP_PAGES or (docs / page).exists()


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that lie beside docs/."""
    for name in TOP_PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns links that leave docs/ into links on the site, or into their text."""
    here = ROOT / page.file.src_uri
    if page.file.src_uri not in TOP_PAGES:
        here = Path(config.docs_dir) / page.file.src_uri
    depth = page.file.src_uri.count("/")

    def replaced(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        file, hash, anchor = target.partition("#")
        place = (here.parent / file).resolve()
        if not place.is_relative_to(ROOT):
            return match[0]
        path = place.relative_to(ROOT).as_posix()
        if path.startswith("docs/"):
            path = path.removeprefix("docs/")
        elif path == FRONT_PAGE:
            path, hash, anchor = "README.md", "", ""
        elif path not in TOP_PAGES:
            return text
        return f"[{text}]({'../' * depth}{path}{hash}{anchor})"

    return LINK.sub(replaced, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Shows `a|b` in a table: GitHub needs a backslash there, which Python-Markdown would show."""
    return re.sub(r"<code>[^<]*</code>", lambda match: match[0].replace("\\|", "|"), html)
