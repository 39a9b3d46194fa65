"""Other spellings of tokens in a file of the `tokenizers` library."""

import json
from collections.abc import Mapping
from typing import Any


def rename_tokens(content: str, names: Mapping[str, str]) -> str:
    """Renames tokens in a file of the `tokenizers` library: no other spelling finds them then.

    Args:
        content: The file's content.
        names: The new spellings by the old ones.

    Returns:
        The new content. A merge that makes one of the tokens is left out.
    """
    values: dict[str, Any] = json.loads(content)
    for token in values.get("added_tokens") or []:
        token["content"] = names.get(token["content"], token["content"])
    model = values["model"]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        for old in names.keys() & vocabulary.keys():
            vocabulary[names[old]] = vocabulary.pop(old)
    elif vocabulary is not None:  # Unigram's texts and scores
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if model.get("merges"):
        pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        model["merges"] = [
            [a, b] for a, b in pairs if not (a in names or b in names or a + b in names)
        ]
    return json.dumps(values)
