"""Stands in for the package where the clone itself is found as `minigpt_tf`.

A clone's folder usually has the name of the package in it. From the folder above it
`import minigpt_tf` finds the clone before anything that pip has installed: without this file, as an
empty namespace package.
"""

import importlib.util
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent / "minigpt_tf"

if __name__ == _PACKAGE.name:
    _spec = importlib.util.spec_from_file_location(
        __name__, _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE)]
    )
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
