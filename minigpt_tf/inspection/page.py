"""One HTML file from data and the files in scripts/: it opens offline, and asks no server.

Data is JSON in the page; scripts put its texts into the page as text, never as markup. The page's
own policy allows nothing but its two inline parts, named by their hashes.
"""

import base64
import hashlib
import html
import json
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..storage.replacing import replaced_file

SCRIPTS = {
    "text": ("base.js", "chart.js", "attention.js", "text.js"),
    "embeddings": ("base.js", "embeddings.js"),
    "history": ("base.js", "chart.js", "history.js"),
}
STYLES = {
    "text": ("base.css", "text.css"),
    "embeddings": ("base.css", "embeddings.css"),
    "history": ("base.css",),
}
GENERATOR = '<meta name="generator" content="minigpt inspect">'
"""Marks a file that may be replaced by another page."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{generator}
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<noscript>This page draws with JavaScript: allow it for this file.</noscript>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
BEGINNING = 1_000
"""Bytes of a file in which the mark is looked for."""


def html_page(kind: str, title: str, data: dict[str, Any]) -> str:
    """The page as text.

    Args:
        kind: Of SCRIPTS.
        title: Shown in the browser's tab.
        data: What the scripts show; plain data without infinite numbers.

    Returns:
        One HTML file.
    """
    style = "\n".join(map(_asset, STYLES[kind]))
    script = "(() => {\n" + "\n".join(map(_asset, SCRIPTS[kind])) + "})();\n"
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )
    written = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return PAGE.format(
        generator=GENERATOR,
        policy=html.escape(policy, quote=False),
        title=html.escape(title),
        style=style,
        data=written.replace("<", "\\u003c"),  # else a token could end the script
        script=script,
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath("scripts", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def check_page(file: Path) -> None:
    """Refuses, before anything is computed, a file that no page can be written to.

    Args:
        file: Where the page should go.

    Raises:
        ConfigError: Its folder does not exist, or it is something that is not such a page.
    """
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {file.parent}: make it first")
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name a file, such as --out {file / 'inside.html'}")
    if file.exists():
        try:
            with open(file, "rb") as content:
                is_page = GENERATOR.encode() in content.read(BEGINNING)
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
        if not is_page:
            raise ConfigError(
                f"{file} exists, and was not written by minigpt inspect: name another --out"
            )


def write_page(file: Path, page: str) -> int:
    """Writes a page.

    Args:
        file: Where to.
        page: From `html_page`.

    Returns:
        Its size in bytes.

    Raises:
        ConfigError: It cannot be written; what was there is then unchanged.
    """
    content = page.encode("utf-8", "replace")
    try:
        with replaced_file(file) as scratch:
            scratch.write_bytes(content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{file}: cannot be written: {reason}: choose another --out") from None
    return len(content)


def deflated(values: np.ndarray) -> str:
    """Bytes for the page.

    Args:
        values: uint8 or another type without a sign, little-endian.

    Returns:
        Deflated, in base64; `inflated` in base.js is the inverse.
    """
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()


def rounded(values: np.ndarray, digits: int = 6) -> Any:
    """Numbers for JSON, so long as they say something.

    Args:
        values: Any shape.
        digits: Significant digits.

    Returns:
        Nested lists of floats.

    Example:
        >>> rounded(np.array([[1 / 3, 2e-9]]), 3)
        [[0.333, 2e-09]]
    """
    if values.ndim:
        return [rounded(row, digits) for row in values]
    return float(f"{float(values):.{digits}g}")
