"""Command lines, drawn from the parsers of the verbs themselves."""

import argparse
import functools
import importlib
from pathlib import Path
from random import Random
from typing import Any

from minigpt_tf.__main__ import VERBS

INTEGERS = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "7",
    "x",
    "1e3",
    "",
    "9" * 30,
    "-0",
    "+4",
    "2147483648",
    "\u0663",
]
FLOATS = [
    "-1",
    "0",
    "0.5",
    "1",
    "2",
    "nan",
    "inf",
    "-inf",
    "1e-300",
    "1e308",
    "x",
    "",
    "0,5",
    "1e9999",
]
TEXTS = [
    "",
    " ",
    "--",
    "-",
    "\x1b[31m",
    "\u202e",
    "a" * 3000,
    "\udcff",
    "utf-16",
    "rot13",
    "undefined",
]
TEXTS += [
    "idna",
    "linear",
    "the cat",
    "../x",
    "%s",
    "{}",
    "\\n",
    "\n",
    "a=b",
    "=",
    "text=label",
    "SELECT 1",
]
NUMBERED = [
    "1=2",
    "0=nan",
    "5=-100",
    "-1=1",
    "99999=1",
    "x=1",
    "=",
    "1=",
    "factor=8",
    "1=inf",
    "1=1e308",
]
PATHS = [
    "@char",
    "@word",
    "@bpe",
    "@cls",
    "@lora",
    "@hf",
    "@m.gguf",
    "@m.keras",
    "@text.txt",
    "@run",
]
PATHS += [
    "@labeled.csv",
    "@labeled.xlsx",
    "@labeled.db",
    "@prompts.txt",
    "@queries.json",
    "@records.json",
]
PATHS += [
    "@char/model.h5",
    "@loop",
    "@none",
    "@pipe",
    "@",
    "",
    ".",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
]
PATHS += [
    "/proc/self/mem",
    "out",
    "out/deep/er",
    "\x1b[2J",
    "\udcff",
    "a" * 300,
    "~",
    "sqlite:///",
    "-",
]
PATHS += ["postgresql://x/y", "sqlite:///none.db", "/", "@text.docx", "@text.pdf", "@page.html"]
LIKELY = {
    "--model": ["@char", "@word", "@bpe", "@cls", "@lora"],
    "--models": ["@lora", "@bpe"],
    "--base": ["@bpe", "@char"],
    "--data": ["@text.txt", "@labeled.csv", "@records.json", "@labeled.db"],
    "--queries": ["@queries.json", "@prompts.txt"],
    "--out": ["out"],
}
"""What is often given, so that the other options are looked at too."""

ALWAYS = {
    "train": ["--steps", "1", "--embed-dim", "8"],
    "generate": ["--max-new-tokens", "3"],
    "chat": ["--max-new-tokens", "3"],
    "ask": ["--max-new-tokens", "2"],
    "evaluate": ["--samples", "1", "--sample-tokens", "3"],
}
"""Else what is asked for may rightly take long."""

LEFT_OUT = {
    "--help",
    "--warm-up",
    "--num-samples",
    "--samples",
    "--sample-tokens",
    "--max-new-tokens",
}
LEFT_OUT |= {"--steps", "--batch-size", "--speculate"}


@functools.cache
def actions(verb: str) -> list[argparse.Action]:
    """The options and arguments of a verb."""
    parser = argparse.ArgumentParser(prog=verb)
    importlib.import_module(VERBS[verb][0]).add_arguments(parser)
    return [action for action in parser._actions if not LEFT_OUT & set(action.option_strings)]


def command_line(random: Random, seeds: Path) -> list[str]:
    """A command line, of which some parts make sense.

    Args:
        random: Draws it.
        seeds: The folder of the sound files.

    Returns:
        The words behind `minigpt`.
    """
    verb = random.choice([*VERBS, *VERBS, "", "--help", "--version", "tran", "\x1b"])
    if verb not in VERBS:
        return [verb, *random.sample(TEXTS, random.randrange(3))]
    found = actions(verb)
    chosen = random.sample(found, random.randrange(min(len(found), 7)))
    usual = [a for a in found if set(a.option_strings) & LIKELY.keys() or not a.option_strings]
    chosen += [action for action in usual if random.random() < 0.8]
    words = [verb, *ALWAYS.get(verb, ())]
    for action in chosen:
        words += _given(action, random)
    if random.random() < 0.1:
        words.insert(random.randrange(len(words)) + 1, random.choice(["--", "--debug-", "-x", ""]))
    return [str(seeds / word[1:]) if word[:1] == "@" else word for word in words]


def _given(action: argparse.Action, random: Random) -> list[str]:
    """An option with a value, or an argument."""
    name = random.choice(action.option_strings) if action.option_strings else ""
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return [name]
    many = action.nargs in ("+", "*")
    values = [_value(action, random, name) for _ in range(random.randint(1, 2) if many else 1)]
    if name and not many and random.random() < 0.3:
        return [f"{name}={values[0]}"]
    return [name, *values] if name else values


def _value(action: argparse.Action, random: Random, name: str) -> str:
    if random.random() < 0.1:
        return random.choice(TEXTS + PATHS)
    if name in LIKELY and random.random() < 0.7:
        return random.choice(LIKELY[name])
    kind: Any = action.type
    if action.choices:
        return str(random.choice(list(action.choices)))
    if kind is int:
        return random.choice(INTEGERS)
    if kind is float:
        return random.choice(FLOATS)
    if kind is Path or action.metavar in ("FILE", "PATH", "DIR", "RECORDS", "SOURCE"):
        return random.choice(PATHS)
    if action.metavar in ("ID=F", "NAME=F", "NAME=NAME"):
        return random.choice(NUMBERED)
    return random.choice(TEXTS)
