"""Prints the tests of a JUnit report that were skipped because a module could not be imported."""

import sys
from xml.etree import ElementTree

for case in ElementTree.parse(sys.argv[1]).iter("testcase"):
    skipped = case.find("skipped")
    if skipped is not None and "could not import" in skipped.get("message", ""):
        print(f"{case.get('classname').replace('.', '/')}.py::{case.get('name')}")
