"""The scripts of benchmarks/ import each other by their bare names, as scripts do."""

import sys

from tests.conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
