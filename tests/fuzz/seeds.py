"""The sound files that are damaged: tiny models in every format, texts, records, a database.

`python -m tests.fuzz.seeds FOLDER` makes them: in a process of its own, as it needs TensorFlow.
"""

import io
import json
import pickle
import shutil
import sqlite3
import sys
import zlib
from pathlib import Path

WORDS = ["the cat sat on the mat", "who is Hardy", "a dog ran", "one two three", "it's 12 o'clock"]
TEXT = "\n".join(WORDS * 12) + "\n"
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LABELED = [{"text": word, "label": "ab"[i % 2]} for i, word in enumerate(WORDS * 4)]
RECORDS = [{"instruction": f"say {w}", "input": "", "output": f"it is {w}"} for w in WORDS * 2]
SIZES = {"embed_dim": 16, "num_layers": 1, "num_heads": 2, "ff_dim": 16, "context_length": 32}


def build(root: Path) -> None:
    """Makes all seeds."""
    from minigpt_tf.config.presets import model_preset
    from minigpt_tf.text.chat_template import ChatTemplate
    from minigpt_tf.text.tokenizers import train_tokenizer
    from tests.interop.folders import make_folder

    for kind, size in (("char", 60), ("word", 60), ("bpe", 280)):
        tokenizer = train_tokenizer(kind, [TEXT, TEMPLATE], size)
        preset = "modern" if kind == "bpe" else "lecture"
        heads = {"num_kv_heads": 1 if kind == "bpe" else 2, "head_dim": 8}
        config = model_preset(preset, **SIZES, **heads, vocab_size=tokenizer.vocab_size)
        template = ChatTemplate(TEMPLATE, {}) if kind == "bpe" else None
        make_folder(root / kind, config, tokenizer, template=template)
    write_texts(root)
    write_documents(root)
    write_models(root)
    for file in root.glob("*/config.json"):  # with hashes, nothing damaged would be read
        description = json.loads(file.read_text())
        if description.pop("files", None):
            file.write_text(json.dumps(description))


def run(*words: object) -> None:
    """One command in this process."""
    from minigpt_tf.__main__ import main

    assert main([*map(str, words)]) == 0, words


def write_models(root: Path) -> None:
    """What the commands make of the models: exports, copies of the engine, runs, adapters."""
    from minigpt_tf.inference import weight_layout

    short = ("--steps", 2, "--batch-size", 4, "--dtype", "float32")
    run("export", "--model", root / "bpe", "--format", "hf", "--out", root / "hf")
    run("export", "--model", root / "bpe", "--format", "gguf", "--out", root / "m.gguf")
    run("export", "--model", root / "char", "--format", "keras", "--out", root / "m.keras")
    tuning = ("finetune", "--base", root / "bpe", *short)
    run(*tuning, "--data", root / "records.jsonl", "--out", root / "lora", "--rank", 2)
    classify = ("--method", "classify", "--data", root / "labeled.csv", "--out", root / "cls")
    run(*tuning, *classify)
    sizes = [word for name, n in SIZES.items() for word in (f"--{name.replace('_', '-')}", n)]
    run("train", "--data", root / "text.txt", "--out", root / "run", *short, *sizes)
    for name in ("int8", "int4"):
        shutil.copytree(root / "char", root / name)
        run("generate", "the", "--model", root / name, "--quantize", name, "--max-new-tokens", 1)
    weight_layout.COMPACT_FROM = 0  # so that a small model has its model.exact.h5, too
    half = root / "half"
    run("export", "--model", root / "bpe", "--format", "hf", "--dtype", "bf16", "--out", half)
    run("import", half, "--out", root / "exact")
    write_vocabularies(root)
    for name in (
        "char",
        "word",
        "bpe",
        "cls",
        "lora",
        "exact",
    ):  # the engine is compiled for each kind
        verb = ("classify", "the cat") if name == "cls" else ("generate", "the cat")
        run(*verb, "--model", root / name)


def write_vocabularies(root: Path) -> None:
    """The same model with its vocabulary as GPT-2's folders have it, and as Llama's had it."""
    import sentencepiece

    known = json.loads((root / "hf" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in known["merges"]]
    for name in ("files", "pieces"):
        shutil.copytree(root / "hf", root / name)
        (root / name / "tokenizer.json").unlink()
    (root / "files" / "vocab.json").write_text(json.dumps(known["vocab"]))
    (root / "files" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    size = json.loads((root / "hf" / "config.json").read_text())["vocab_size"]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 20),
        model_writer=model,
        vocab_size=size,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (root / "pieces" / "tokenizer.model").write_bytes(model.getvalue())


def write_texts(root: Path) -> None:
    """Texts and records in the formats that the standard library can write."""

    def put(name: str, text: str) -> None:
        (root / name).write_text(text, encoding="utf-8")

    rows = [f'{r["label"]},"{r["text"]}"' for r in LABELED]
    put("text.txt", TEXT)
    put("page.html", f"<html><body><h1>Title</h1><p>{TEXT}</p><ul><li>a<li>b</ul></body></html>")
    put("labeled.csv", "\n".join(["label,text", *rows]) + "\n")
    put("labeled.tsv", "\n".join(f"{r['label']}\t{r['text']}" for r in LABELED) + "\n")
    put("labeled.json", json.dumps(LABELED))
    put("labeled.jsonl", "".join(json.dumps(row) + "\n" for row in LABELED))
    put("records.jsonl", "".join(json.dumps(row) + "\n" for row in RECORDS))
    put("records.json", json.dumps({"records": RECORDS}))
    put("records.txt", "".join(f"Q: {r['instruction']}\nA: {r['output']}\n" for r in RECORDS))
    put("queries.json", json.dumps([{"question": w, "fact": "a"} for w in WORDS[:2]]))
    put("prompts.txt", "\n".join(WORDS[:3]) + "\n")
    with sqlite3.connect(root / "labeled.db") as database:
        database.execute("CREATE TABLE t (label TEXT, text TEXT)")
        rows = [(row["label"], row["text"]) for row in LABELED]
        database.executemany("INSERT INTO t VALUES (?, ?)", rows)
        database.execute("CREATE VIEW v AS SELECT upper(text) AS text, label FROM t")
    database.close()


def write_documents(root: Path) -> None:
    """A spreadsheet, a Word file and a PDF."""
    import docx
    import openpyxl

    book = openpyxl.Workbook()
    for row in [["label", "text"], *([r["label"], r["text"]] for r in LABELED)]:
        book.active.append(row)
    book.create_sheet("more").append([1, 2.5, True, "=1+1"])
    book.save(root / "labeled.xlsx")
    document = docx.Document()
    for word in WORDS:
        document.add_paragraph(word)
    document.add_table(2, 2).cell(0, 0).text = "cell"
    document.save(root / "text.docx")
    (root / "text.pdf").write_bytes(pdf("\n".join(WORDS)))


def pdf(text: str) -> bytes:
    """A page with a text, its content compressed."""
    lines = " ".join(f"({line}) Tj T*" for line in text.replace("(", "").splitlines())
    stream = zlib.compress(f"BT /F1 12 Tf 14 TL 72 700 Td {lines} ET".encode())
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /MediaBox [0 0 612 792] "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    file, places = io.BytesIO(b"%PDF-1.4\n"), []
    file.seek(0, 2)
    for number, content in enumerate(objects, start=1):
        places.append(file.tell())
        file.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = file.tell()
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    file.write(b"xref\n0 6\n0000000000 65535 f \n" + table)
    file.write(b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start)
    return file.getvalue()


class Payload:
    """What a pickle of a stranger may hold: it would write a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return (open, (str(self.file), "w"))


def pickled_payload(file: Path) -> bytes:
    """A pickle that writes a file when it is loaded as pickles are."""
    return pickle.dumps({"word_index": Payload(file)})


if __name__ == "__main__":
    build(Path(sys.argv[1]))
