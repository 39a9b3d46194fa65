"""Prints the tests of a JUnit report that were skipped because a module could not be imported."""

import sys
from xml.etree import ElementTree

for case in ElementTree.parse(sys.argv[1]).iter("testcase"):
    skipped = case.find("skipped")
    reason = "" if skipped is None else skipped.get("message", "")
    if "could not import" in reason or "is not installed" in reason:
        print(f"{case.get('classname').replace('.', '/')}.py::{case.get('name')}")
