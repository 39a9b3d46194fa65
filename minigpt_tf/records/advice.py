"""What to say of a file with the names of another layout: its name, and how to read it."""

import shlex
from collections.abc import Collection, Sequence

from .schema import NEEDS

_SYNONYMS = {
    "instruction": (
        "question",
        "query",
        "prompt",
        "q",
        "problem",
        "task",
        "user",
        "human",
        "input",
        "source",
    ),
    "output": (
        *("answer", "response", "completion", "reply", "a", "assistant", "solution", "target"),
        *("generation", "summary", "expected", "gold"),
    ),
    "input": ("context", "passage", "document"),
    "prompt": ("question", "query", "input", "problem", "task"),
    "chosen": ("accepted", "preferred", "winner", "better", "good", "response_chosen"),
    "rejected": ("loser", "worse", "bad", "response_rejected", "dispreferred"),
    "text": ("sentence", "content", "review", "message", "comment", "sms", "tweet", "body"),
    "label": ("category", "class", "sentiment", "intent", "target", "tag", "topic", "labels"),
    "messages": ("dialogue", "dialog", "chat", "turns", "history", "items"),
}
"""Names that others give to what is needed; the first that is there is taken."""

_LAYOUTS = (
    (
        {"prompt", "completion", "label"},
        "is TRL's layout of single judgments (KTO): keep the rows whose label is true, without "
        "'label', for an instruction file",
    ),
    (
        {"context", "question", "answers"},
        "is SQuAD's layout, in which 'answers' is an object: write its first text as 'output', and "
        "give --map instruction=question --map input=context",
    ),
    (
        {"message_id", "parent_id", "role"},
        "is OpenAssistant's tree of messages: write each path of it as {messages: [...]}",
    ),
    (
        {"mapping", "title"},
        "is an export of ChatGPT: write each conversation as {messages: [{role, content}, ...]}",
    ),
    (
        {"custom_id", "body"},
        "is a file of requests for OpenAI's batch API, which has questions without answers",
    ),
    (
        {"paragraphs"},
        "is SQuAD's layout of paragraphs: write each question as {instruction, input, output}",
    ),
)
"""Layouts that are not read, by names that they have."""


def advice_for(names: Collection[str], kinds: Sequence[str], *, is_table: bool) -> str:
    """What to do with a file that has other names than those that are needed.

    Args:
        names: The names in the file.
        kinds: The kinds of records that are wanted.
        is_table: Whether the names are a first row, which may be a record.

    Returns:
        The layout's name or the exact options that read the file, or else how options look.

    Example:
        >>> advice_for(["question", "answer"], ["instruction"], is_table=False)
        'give --map instruction=question --map output=answer'
    """
    lower = {name.strip().lower(): name for name in names}
    for needed, advice in _LAYOUTS:
        if needed <= lower.keys():
            return f"it {advice}"
    if is_table and _looks_like_a_record(list(names)):
        numbers = {kind: [group[0] for group in NEEDS[kind]] for kind in kinds}
        fitting = next((n for n in numbers.values() if len(n) == len(names)), None)
        fitting = fitting or ["instruction", "output"]
        options = " ".join(f"--map {name}={place}" for place, name in enumerate(fitting, start=1))
        return f"if its first row is a record, give {options}"
    for kind in kinds:
        if options := _options(lower, kind):
            return f"give {options}"
    if len(names) == 2 and "instruction" in kinds:
        pairs = zip(("instruction", "output"), names, strict=True)
        options = " ".join(f"--map {shlex.quote(f'{ours}={name}')}" for ours, name in pairs)
        return f"say which is which, such as {options}"
    if set(lower) == {"text"}:
        return "texts without more are for minigpt train"
    return "say which is which, such as --map output=answer"


def _looks_like_a_record(names: Sequence[str]) -> bool:
    """Whether the cells of a first row are texts, not names."""
    return len(names) > 1 and any(
        len(name.split()) > 4 or name.rstrip().endswith((".", "?", "!")) for name in names
    )


def _options(lower: dict[str, str], kind: str) -> str:
    """The options that read a file as a kind of records; "" where it lacks something."""
    chosen: dict[str, str] = {}
    for group in NEEDS[kind]:
        if any(name in lower for name in group):
            continue
        found = next(
            (lower[other] for other in _SYNONYMS[group[0]] if other in lower), None
        ) or _by_ending(lower, group[0])
        if found is None or found in chosen.values():
            return ""
        chosen[group[0]] = found
    if not chosen:
        return ""
    if kind == "instruction" and "input" not in lower:
        beside = next((lower[n] for n in _SYNONYMS["input"] if n in lower), None)
        if beside is not None and beside not in chosen.values():
            chosen["input"] = beside
    return " ".join(f"--map {shlex.quote(f'{name}={other}')}" for name, other in chosen.items())


def _by_ending(lower: dict[str, str], name: str) -> str | None:
    """A name that ends in a known one, such as user_question."""
    for other in _SYNONYMS[name]:
        for known, original in lower.items():
            if len(other) > 3 and known.replace("-", "_").replace(" ", "_").endswith(f"_{other}"):
                return original
    return None
