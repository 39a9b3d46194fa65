"""What is damaged, and which command reads it. A case is drawn by kind, seed and number."""

import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.commands import command_line
from tests.fuzz.mutations import (
    mutate_bytes,
    mutate_json_lines,
    mutate_json_text,
    mutate_safetensors,
    mutate_zip,
)
from tests.fuzz.seeds import pickled_payload

Mutate = Callable[[bytes, Random, list[bytes]], bytes]

CANARY, SECRET = "canary", "secret"
"""Files in the seeds' folder: the one that only foreign code would write, or read."""

GENERATE = ("generate", "the cat", "--max-new-tokens", "3", "--greedy")


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    mutate: Mutate
    files: Sequence[str]
    """In the seeds' folder; what lies in a model folder is damaged in a copy of the folder."""
    commands: Sequence[Sequence[str]]
    """What reads it: FILE is the damaged file, FOLDER its folder, and @NAME a sound seed."""
    words: Sequence[str | bytes] = ()
    """Of the format, to be strewn in. CANARY and SECRET are those files."""


JSON_WORDS = [
    "null",
    "NaN",
    "-Infinity",
    "1e999",
    '"\\ud800"',
    '"\\u0000"',
    "[" * 3000,
    '{"a":' * 2000,
]
JSON_WORDS += ["9" * 5000, "}", "]", ",", '"', "\\"]
TABLE_WORDS = [
    '"',
    '""',
    ",",
    ";",
    "\t",
    "\n",
    "\r",
    "\0",
    "=1+1",
    "'",
    "sep=;\n",
    "," * 5000,
    "\ufeff",
]
TABLE_WORDS += ["\x85", "\u2028", b"\xff\xfe", b"\x80"]
XML_WORDS = [
    '<!DOCTYPE a [<!ENTITY b SYSTEM "file://SECRET">]>',
    "&b;",
    "<w:p>",
    "</w:t>",
    "<c t='s'>",
]
XML_WORDS += ["<v>99999999</v>", "<mergeCell ref='A1:XFD1048576'/>", "<row r='1048576'>", "&#0;"]
XML_WORDS += ["<w:tbl>" * 500, "<a>" * 3000, '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">', "xml:space"]
JINJA_WORDS = [
    "{% for a in range(99999999) %}",
    "{% endfor %}",
    "{{ 'a' * 999999999 }}",
    "{% if x %}",
]
JINJA_WORDS += ["{{ 9 ** 9 ** 9 }}", "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{{", "}}"]
JINJA_WORDS += [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% include 'SECRET' %}",
    "{#",
    "#}",
]
JINJA_WORDS += ["{{ messages | tojson }}", "{% set x = x ~ x %}", "{{ raise_exception('\x1b') }}"]
JINJA_WORDS += ["{{ '%999999999d' % 1 }}", "{{ (1,) * 999999999 }}", "{{ strftime_now('%Y') }}"]
JINJA_WORDS += [
    "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "{{ lipsum(99999999) }}",
]
JINJA_WORDS += [
    "{{ messages.__class__ }}",
    "{%- generation %}",
    "{% break %}",
    "{{ 1 / 0 }}",
    "\ud83d",
]
HTML_WORDS = ["<div>" * 3000, "<!--", "<script>", "</p>", "&#x110000;", "&lt", "<![CDATA[", "<svg>"]
HTML_WORDS += ["<table>" * 500, "<", '<a href="', "\0", "<meta charset=utf-7>", "&amp;" * 3000]
PDF_WORDS = [
    "/Kids [2 0 R]",
    "/Count 99999999",
    "/Length 99999999999",
    "/Filter [/FlateDecode]",
    "<<",
]
PDF_WORDS += ["/Predictor 15 /Columns 99999999", "/Encrypt 1 0 R", ">>", "1 0 obj", "/Parent 3 0 R"]
PICKLE_WORDS: list[str | bytes] = [
    b"cos\nsystem\n(S'touch CANARY'\ntR.",
    b"(",
    b"]",
    b"}",
    b"t",
    b"u",
]
PICKLE_WORDS += [
    b"c__builtin__\nopen\n",
    b"\x8c",
    b"\x94",
    b"R",
    b"\x81",
    b"b",
    b"0",
    b"j\xff\xff\xff\x7f",
]
PICKLE_WORDS += [
    b"\x8d\xff\xff\xff\xff\0\0\0\0",
    b"\x8a\xff" + b"\xff" * 255,
    b"2" * 500,
    b"\x88.",
    b"N.",
]
KERAS_WORDS = [
    "Lambda",
    "keras.layers",
    "builtins",
    "os",
    "system",
    "__lambda__",
    "CANARY",
    "TFSMLayer",
]
KERAS_WORDS += ["InputLayer", "batch_shape", "OHDR", "TREE", "HEAP", "SNOD", "weight_names"]
TOKEN_WORDS = [
    "Regex",
    "Precompiled",
    "Strip",
    "Replace",
    "Sequence",
    "Metaspace",
    "ByteLevel",
    "(a+)+$",
]
TOKEN_WORDS += [
    "BPE",
    "Unigram",
    "WordPiece",
    "added_tokens",
    "pad_to_multiple_of",
    "Fixed",
    "ByteFallback",
]
SQL_WORDS = [
    "SELECT",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n)",
    "TABLE",
    "VIEW",
]
PROMPT_WORDS = [
    "\0",
    "\r",
    "\x85",
    "\u2028",
    b"\xff",
    b"\xed\xa0\x80",
    "<|user|>",
    "\n" * 3000,
    "é" * 3000,
]
NAME_WORDS = [
    "general.architecture",
    "tokenizer.ggml.tokens",
    "llama.block_count",
    "GGUF",
    "F16",
    "I64",
]

EVALUATE = ("evaluate", "--samples", "0", "--data", "FILE", "--model")
CLASSIFY = ("classify", "--model", "@cls", "--data", "FILE")
TUNE = ("finetune", "--base", "@bpe", "--data", "FILE", "--out", "OUT", "--steps", "1")
IMPORT = ("import", "FILE", "--out", "OUT")
TUNE_LABELS = (*TUNE, "--method", "classify")
SUMMARY = ("summary", "--model", "FILE")

IMPORTED = ("char/model.h5", "char/tokenizer.pkl", "payload.pkl/tokenizer.pkl")
"""What `import` reads of the model folders."""

KINDS: dict[str, Kind] = {
    "model.h5": Kind(
        mutate_bytes,
        ["char/model.h5", "bpe/model.h5", "word/model.h5"],
        [
            *[(*GENERATE, "--model", "FOLDER")] * 4,
            SUMMARY,
            (*IMPORT, "--tokenizer", "@char/tokenizer.pkl"),
            ("evaluate", "--samples", "0", "--data", "@text.txt", "--model", "FOLDER"),
        ],
        KERAS_WORDS,
    ),
    "model.keras": Kind(
        mutate_zip,
        ["m.keras"],
        [SUMMARY, (*IMPORT, "--tokenizer", "@char/tokenizer.pkl")],
        [*KERAS_WORDS, *JSON_WORDS],
    ),
    "model.int8.h5": Kind(
        mutate_bytes,
        ["int8/model.int8.h5"],
        [(*GENERATE, "--quantize", "int8", "--model", "FOLDER")],
    ),
    "model.int4.h5": Kind(
        mutate_bytes,
        ["int4/model.int4.h5"],
        [(*GENERATE, "--quantize", "int4", "--model", "FOLDER")],
    ),
    "model.exact.h5": Kind(
        mutate_bytes, ["exact/model.exact.h5"], [(*GENERATE, "--model", "FOLDER")]
    ),
    "config.json": Kind(
        mutate_json_text,
        [f"{name}/config.json" for name in ("char", "bpe", "cls", "lora", "word", "run")],
        [
            (*GENERATE, "--model", "FOLDER"),
            (*GENERATE, "--chat", "--json", "--model", "FOLDER"),
            ("evaluate", "--samples", "0", "--data", "@text.txt", "--model", "FOLDER"),
            ("classify", "the cat", "--model", "FOLDER"),
            ("ask", "--models", "FOLDER", "--queries", "@queries.json", "--max-new-tokens", "2"),
            ("finetune", "--base", "FOLDER", "--data", "@records.json", "--out", "OUT"),
            ("export", "--format", "hf", "--out", "OUT", "--model", "FOLDER"),
            ("export", "--format", "gguf", "--out", "OUT.gguf", "--model", "FOLDER"),
        ],
        JSON_WORDS,
    ),
    "tokenizer.pkl": Kind(
        mutate_bytes,
        ["char/tokenizer.pkl", "word/tokenizer.pkl", "payload.pkl/tokenizer.pkl"],
        [
            (*GENERATE, "--model", "FOLDER"),
            ("import", "@m.keras", "--out", "OUT", "--tokenizer", "FILE"),
        ],
        PICKLE_WORDS,
    ),
    "tokenizer.json": Kind(
        mutate_json_text,
        ["bpe/tokenizer.json", "hf/tokenizer.json"],
        [
            (*GENERATE, "--model", "FOLDER"),
            (*GENERATE, "--chat", "--model", "FOLDER"),
            ("evaluate", "--samples", "0", "--data", "@text.txt", "--model", "FOLDER"),
            ("import", "FOLDER", "--out", "OUT"),
        ],
        [*JSON_WORDS, *TOKEN_WORDS],
    ),
    "chat template": Kind(
        mutate_bytes,
        ["bpe/chat_template.jinja", "lora/chat_template.jinja", "hf/chat_template.jinja"],
        [
            *[(*GENERATE, "--chat", "--model", "FOLDER")] * 3,
            ("import", "FOLDER", "--out", "OUT"),
            ("finetune", "--base", "FOLDER", "--data", "@records.json", "--out", "OUT"),
            ("ask", "--models", "FOLDER", "--queries", "@queries.json", "--max-new-tokens", "2"),
        ],
        JINJA_WORDS,
    ),
    "checkpoint state": Kind(
        mutate_zip, ["lora/checkpoint/state-00000002.npz"], [("call:state", "FILE", "@lora")]
    ),
    "run.json": Kind(
        mutate_json_text,
        ["run/checkpoint/run.json", "lora/checkpoint/run.json", "cls/checkpoint/run.json"],
        [("train", "--resume", "--out", "FOLDER"), ("finetune", "--resume", "--out", "FOLDER")],
        JSON_WORDS,
    ),
    "adapter": Kind(
        mutate_safetensors,
        ["lora/adapter.safetensors"],
        [("call:adapter", "FILE", "@bpe")],
        JSON_WORDS,
    ),
    "classifier": Kind(
        mutate_safetensors,
        ["cls/classifier.safetensors"],
        [("classify", "the cat", "--model", "FOLDER")],
        JSON_WORDS,
    ),
    "safetensors": Kind(
        mutate_safetensors,
        ["hf/model.safetensors", "half/model.safetensors"],
        [("import", "FOLDER", "--out", "OUT")],
        JSON_WORDS,
    ),
    "hf config": Kind(
        mutate_json_text,
        ["hf/config.json", "hf/tokenizer_config.json", "hf/generation_config.json"],
        [("import", "FOLDER", "--out", "OUT")],
        [*JSON_WORDS, *JINJA_WORDS],
    ),
    "vocab.json and merges.txt": Kind(
        mutate_bytes,
        ["files/vocab.json", "files/merges.txt"],
        [("import", "FOLDER", "--out", "OUT")],
        [*JSON_WORDS, "Ġ", " ", "\n", "#version: 0.2"],
    ),
    "tokenizer.model": Kind(
        mutate_bytes, ["pieces/tokenizer.model"], [("import", "FOLDER", "--out", "OUT")]
    ),
    "gguf": Kind(mutate_bytes, ["m.gguf"], [IMPORT], NAME_WORDS),
    "txt": Kind(
        mutate_bytes,
        ["text.txt"],
        [(*EVALUATE, "@char"), (*EVALUATE, "@bpe"), ("train", "--data", "FILE", "--out", "OUT")],
        PROMPT_WORDS,
    ),
    "html": Kind(mutate_bytes, ["page.html"], [(*EVALUATE, "@char")], HTML_WORDS),
    "docx": Kind(mutate_zip, ["text.docx"], [(*EVALUATE, "@char")], XML_WORDS),
    "pdf": Kind(mutate_bytes, ["text.pdf"], [(*EVALUATE, "@char")], PDF_WORDS),
    "xlsx": Kind(
        mutate_zip, ["labeled.xlsx"], [(*EVALUATE, "@char"), CLASSIFY, TUNE, TUNE_LABELS], XML_WORDS
    ),
    "csv and tsv": Kind(
        mutate_bytes,
        ["labeled.csv", "labeled.tsv"],
        [(*EVALUATE, "@char"), CLASSIFY, TUNE_LABELS],
        TABLE_WORDS,
    ),
    "json": Kind(
        mutate_json_text,
        ["labeled.json", "records.json"],
        [(*EVALUATE, "@char"), CLASSIFY, TUNE, TUNE_LABELS],
        JSON_WORDS,
    ),
    "jsonl": Kind(
        mutate_json_lines,
        ["labeled.jsonl", "records.jsonl"],
        [(*EVALUATE, "@char"), CLASSIFY, TUNE, TUNE_LABELS],
        JSON_WORDS,
    ),
    "written records": Kind(
        mutate_bytes, ["records.txt"], [TUNE], [*PROMPT_WORDS, "Q:", "A:", "###"]
    ),
    "sqlite": Kind(
        mutate_bytes,
        ["labeled.db"],
        [(*CLASSIFY, "--query", f"SELECT text, label FROM {name}") for name in ("t", "v")],
        SQL_WORDS,
    ),
    "prompts": Kind(
        mutate_bytes,
        ["prompts.txt"],
        [
            (*GENERATE[:1], *GENERATE[2:], "--prompts", "FILE", "--model", "@char"),
            (*GENERATE[:1], *GENERATE[2:], "--prompts", "FILE", "--chat", "--model", "@lora"),
            ("ask", "--models", "@lora", "--queries", "FILE", "--max-new-tokens", "2"),
        ],
        PROMPT_WORDS,
    ),
    "queries": Kind(
        mutate_json_text,
        ["queries.json"],
        [("ask", "--models", "@lora", "--queries", "FILE", "--max-new-tokens", "2")],
        JSON_WORDS,
    ),
}

COMMANDS = "command lines"
NAMES = [*KINDS, COMMANDS]


@dataclass
class Case:
    """One input: a folder with the damaged file, and the command that reads it."""

    kind: str
    folder: Path
    words: list[str]


def make_case(kind: str, number: int, seed: int, seeds: Path, folder: Path) -> Case:
    """Draws a case and writes its files.

    Args:
        kind: Of `NAMES`.
        number: Of the case in its kind.
        seed: Of the run.
        seeds: The folder of the sound files.
        folder: An empty folder.

    Returns:
        The case, the same for the same arguments.
    """
    random = Random(f"{seed}/{kind}/{number}")
    if kind == COMMANDS:
        return Case(kind, folder, command_line(random, seeds))
    of = KINDS[kind]
    name = random.choice(of.files)
    words = [_word(word, seeds) for word in of.words]
    damaged = of.mutate(seed_content(seeds, name), random, words)
    command = random.choice([command for command in of.commands if reads(command, name)])
    return written_case(kind, name, command, damaged, seeds, folder)


def reads(command: Sequence[str], name: str) -> bool:
    """Whether a command takes a sound file of that name."""
    folder, verb = name.partition("/")[0], command[0]
    if verb == "import":
        return folder in ("hf", "half", "files", "pieces", "m.keras", "m.gguf") or name in IMPORTED
    if verb == "classify":
        return folder == "cls" or name.startswith("labeled")
    if "--resume" in command:
        return (folder == "run") == (verb == "train")
    if verb == "finetune":
        labeled = name.startswith("labeled")
        return labeled == ("classify" in command) and folder not in ("char", "word", "run", "hf")
    if verb == "export" or "--chat" in command:
        return folder in ("bpe", "lora", "prompts.txt")
    if verb in ("ask", "generate"):
        return folder not in ("cls", "hf")
    return folder != "hf"


def written_case(
    kind: str, name: str, command: Sequence[str], content: bytes, seeds: Path, folder: Path
) -> Case:
    """Writes the file of a case, and the model folder around it if it lies in one."""
    outer, _, inner = name.partition("/")
    if inner and (seeds / outer).is_dir():
        # With the time of the original: the engine's copies are of the model with that time.
        shutil.copytree(seeds / outer, folder / outer, ignore=shutil.ignore_patterns("*.png"))
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    places = {"FILE": folder / name, "FOLDER": folder / outer, "OUT": folder / "out"}
    places["OUT.gguf"] = folder / "out.gguf"
    found = [places.get(w, seeds / w[1:] if w[0] == "@" else w) for w in command]
    return Case(kind, folder, [str(word) for word in found])


@functools.cache
def seed_content(seeds: Path, name: str) -> bytes:
    """A sound file; the pickle that would write a file is made here."""
    if name.startswith("payload.pkl"):
        return pickled_payload(seeds / CANARY)
    return (seeds / name).read_bytes()


def _word(word: str | bytes, seeds: Path) -> bytes:
    content = word if isinstance(word, bytes) else word.encode("utf-8", "surrogatepass")
    content = content.replace(b"CANARY", str(seeds / CANARY).encode())
    return content.replace(b"SECRET", str(seeds / SECRET).encode())


def numbered(total: int, names: Sequence[str] = NAMES) -> Iterator[tuple[str, int]]:
    """(kind, number) of as many cases, the kinds in turn."""
    for index in range(total):
        yield names[index % len(names)], index // len(names)
