"""`minigpt ask`: queries, facts, models beside their bases, and how the answers are shown."""

import json
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.cli.ask import table
from minigpt_tf.config import EngineConfig, SamplingConfig
from minigpt_tf.config.presets import asking_preset
from minigpt_tf.evaluation.questions import comparison as comparison_module
from minigpt_tf.evaluation.questions.answer_file import as_json
from minigpt_tf.evaluation.questions.comparison import (
    AskedModel,
    Comparison,
    ModelAnswers,
    choose_models,
    compare,
)
from minigpt_tf.evaluation.questions.queries import Queries, Query, read_queries
from minigpt_tf.events import Listener
from minigpt_tf.inference.adapter import fingerprint
from minigpt_tf.inference.answer import Generation
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.prompt import Prompt
from minigpt_tf.records.alpaca import ALPACA
from minigpt_tf.retrieval.context import UNKNOWN, messages_with
from minigpt_tf.retrieval.library import Library
from minigpt_tf.text.chat_template import ChatTemplate, message
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import ROOT, Recorder
from tests.interop.folders import TEXT, family_config, make_folder

CHAT = ChatTemplate(
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
    {"eos_token": "<|endoftext|>"},
)
QUESTIONS = ["where is the cat?", "what does the owner say", "it's 12345, and then?"]
SHORT = SamplingConfig(greedy=True, max_new_tokens=12, context_full="stop")


class NoNotice(Listener):
    """Fails at the first notice."""

    def notice(self, text):
        pytest.fail(text)


def change(folder, change_description):
    """Rewrites a folder's config.json."""
    file = folder / "config.json"
    description = json.loads(file.read_text())
    change_description(description)
    file.write_text(json.dumps(description))


def shake(folder, seed, spread):
    """Moves every weight of a model by noise; a greedy answer then hangs on all of its prompt."""
    random = np.random.default_rng(seed)

    def shift(name, dataset):
        """Moves one weight."""
        if isinstance(dataset, h5py.Dataset) and dataset.dtype.kind == "f":
            noise = random.normal(scale=spread, size=dataset.shape)
            dataset[...] = dataset[...] + noise.astype(np.float32)

    with h5py.File(folder / "model.h5", "r+") as file:
        file["model_weights"].visititems(shift)


def tuned(base, folder):
    """A folder like one that fine-tuning has made of a base: other weights, and whence they are."""
    shutil.copytree(base, folder)
    shake(folder, 3, 0.2)
    told = {"base": str(base), "base_fingerprint": fingerprint(base)}
    change(folder, lambda description: description.update(finetuning=told))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A chat model, what was made of it, and a GPT-2 without a chat template."""
    folder = tmp_path_factory.mktemp("asked")
    tokenizer = train_tokenizer("bpe", [TEXT + ALPACA + " ".join(QUESTIONS)], 300)
    sizes = {"vocab_size": tokenizer.vocab_size, "context_length": 256, "tie_embeddings": False}
    make_folder(folder / "base", family_config("llama", **sizes), tokenizer, template=CHAT)
    make_folder(folder / "plain", family_config("gpt2", **sizes), tokenizer)
    for name in ("base", "plain"):
        shake(folder / name, 1, 0.5)
    tuned(folder / "base", folder / "tuned")
    return folder


@pytest.fixture
def queries(tmp_path):
    file = tmp_path / "queries.txt"
    file.write_text("\n\n".join(QUESTIONS) + "\n")
    return file


def run(*words):
    return main(["ask", *map(str, words)])


def error_of(capsys, *words):
    """The one line that a bad command prints."""
    assert run(*words) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and output.err.count("\n") == 1 and not output.out
    return output.err


def json_of(capsys, *words):
    assert run("--json", *words) == 0
    output = capsys.readouterr()
    assert output.out.count("\n") == 1
    return json.loads(output.out, parse_constant=pytest.fail), output.err


# Queries and models


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "", "contains no queries"),
        ("a.txt", " \n\n", "contains no queries"),
        ("a.json", "", "is empty"),
        ("a.json", "[]", "contains no queries"),
        ("a.json", "[1]", "entry 1: it is not an object"),
        ("a.json", '["one", {"query": "two"}]', "entry 2: has 'query', where 'question' or"),
        ("a.json", '{"a": 1}', "is not a list"),
        ("a.jsonl", '"one"\n{"question": "two"\n', "line 2"),
        ("a.jsonl", '"one"\n{"question": [2]}\n', "line 2: 'question' is ['2'], where"),
        ("a.jsonl", '{"question": "one", "fact": [1]}\n', "line 1: 'fact' is ['1'], where a text"),
        ("a.jsonl", '{"question": " "}\n', "line 1: 'question' is empty"),
        ("a.jsonl", '""\n', "line 1: the text is empty"),
        ("a.jsonl", '{"question": "one", "question": "two"}\n', "twice"),
        ("a.csv", "question,fact\none\n", "line 2: it has fewer columns"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\x00\x01\x02", "binary data"),
        ("a.jsonl", b"\x00\xff\x80" * 40, "binary data"),
        ("a.xml", "one", "files ending in .xml are not read (readable: .txt .json"),
        ("a.sqlite", "one", "files ending in .sqlite are not read"),
    ],
)
def test_bad_queries_are_one_line(name, content, reason, models, tmp_path, capsys):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = error_of(capsys, "--models", models / "base", "--queries", file)
    assert str(file) in said and reason in said


def alone(folder, question, end_ids=None):
    """A greedy answer of the folder's own generator."""
    generator = TextGenerator.load(folder)
    if generator.chat_template is not None:
        prompt = generator.prepare_chat([message("user", question)])
    else:
        prompt = generator.prepare(f"{ALPACA}\n\n### Instruction:\n{question}\n\n### Response:\n")
    return generator.generate(prompt, SHORT)


@pytest.mark.parametrize(
    ("quantize", "names"), [("none", ["base", "plain", "tuned"]), ("int8", ["base"])]
)
def test_answers_are_those_of_each_model_alone(
    models, queries, capsys, quantize, names, monkeypatch
):
    folders = [models / name for name in names]
    words = ["--models", *folders, "--queries", queries, "--max-new-tokens", 12]
    found, _ = json_of(capsys, *words, "--quantize", quantize)
    assert found["quantize"] == quantize and found["sampling"]["greedy"] is True
    config = EngineConfig(quantize=quantize)
    load = TextGenerator.load
    monkeypatch.setattr(TextGenerator, "load", lambda folder: load(folder, config))
    for place, question in enumerate(QUESTIONS):
        query = found["queries"][place]
        assert query["question"] == question and query["row"] == 2 * place + 1
        for folder, answer in zip(folders, query["answers"], strict=True):
            expected = alone(folder, question)
            assert answer["model"] == str(folder)
            assert answer["answer"] == expected.text.strip()
            assert answer["finish_reason"] == expected.finish_reason
            assert answer["completion_tokens"] == len(expected.ids)
            assert answer["prompt_tokens"] == len(expected.prompt.ids)
    texts = [answer["answer"] for query in found["queries"] for answer in query["answers"]]
    assert len(set(texts)) == len(texts) and min(map(len, texts)) > 5


def test_an_answer_ends_at_the_models_end(models, queries, tmp_path, capsys):
    ids = alone(models / "plain", QUESTIONS[0]).ids
    end = ids[4]
    assert end not in ids[:4]
    folder = Path(shutil.copytree(models / "plain", tmp_path / "ends"))
    change(folder, lambda description: description.update(end_ids=[end]))
    found, _ = json_of(capsys, "--models", folder, "--queries", queries, "--max-new-tokens", 12)
    answer = found["queries"][0]["answers"][0]
    assert answer["finish_reason"] == "end" and answer["completion_tokens"] == 4


def test_an_input_is_part_of_the_prompt(models, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps([{"instruction": "say it", "input": "the cat"}]))
    chosen = choose_models([models / "base"], with_bases=False, listener=NoNotice())
    found = compare(chosen, read_queries(file), SHORT)
    expected = alone(models / "base", "say it\n\nthe cat").text.strip()
    assert found.answers[0].text(0) == expected


def test_the_base_is_asked_first_and_once(models, queries, capsys):
    words = ["--models", models / "tuned", f"{models}/plain/../tuned", models / "plain"]
    words += ["--models", models / "tuned", "--queries", queries, "--max-new-tokens", 5]
    found, said = json_of(capsys, *words)
    names = [Path(model["model"]).name for model in found["models"]]
    assert names == ["base", "tuned", "plain"] and said == "" and found["notices"] == []
    bases = [model["base"] for model in found["models"]]
    assert bases == [None, str(models / "base"), None]
    first = found["queries"][0]["answers"]
    assert first[0]["same_as_base"] is None
    assert first[1]["same_as_base"] is (first[1]["answer"] == first[0]["answer"])
    both, _ = json_of(capsys, *words, "--models", models / "base")
    assert [Path(m["model"]).name for m in both["models"]] == names
    without, _ = json_of(capsys, *words, "--no-base")
    assert [Path(m["model"]).name for m in without["models"]] == ["tuned", "plain"]
    assert without["queries"][0]["answers"] == [{**first[1], "same_as_base": None}, first[2]]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"base": "/nowhere/b\x1b", "base_fingerprint": "0"}, "no such model folder"),
        ({"base": "BASE", "base_fingerprint": "0"}, "has changed since"),
        ({"base": ["x"], "base_fingerprint": "0"}, "does not name its base"),
        ("full", "does not name its base"),
    ],
)
def test_a_base_that_cannot_be_asked_is_one_notice(models, queries, tmp_path, capsys, told, reason):
    folder = Path(shutil.copytree(models / "tuned", tmp_path / "other"))
    if isinstance(told, dict) and told["base"] == "BASE":
        told = {**told, "base": str(models / "base")}
    change(folder, lambda description: description.update(finetuning=told))
    recorder = Recorder()
    chosen = choose_models([folder], with_bases=True, listener=recorder)
    assert [model.folder.path for model in chosen] == [folder] and chosen[0].base is None
    notices = recorder.notices
    assert len(notices) == 1 and reason in notices[0] and str(folder) in notices[0]
    choose_models([folder], with_bases=False, listener=NoNotice())
    found, said = json_of(capsys, "--models", folder, "--queries", queries, "--max-new-tokens", 1)
    assert found["notices"] == notices and said.startswith("note: ") and "\x1b" not in said


def test_one_model_at_a_time_is_in_memory(models, queries, monkeypatch):
    made = []

    class Watched(Engine):
        """Knows, when it is made, which were made before."""

        def __init__(self, *arguments):
            assert not any(before() for before in made)
            super().__init__(*arguments)
            made.append(weakref.ref(self))

    monkeypatch.setattr(comparison_module, "Engine", Watched)
    chosen = choose_models([models / "tuned", models / "plain"], with_bases=True)
    compare(chosen, read_queries(queries), asking_preset(max_new_tokens=2))
    assert len(made) == 3 and not any(engine() for engine in made)


def test_a_long_question_loses_its_middle(models, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(["short", "cat " * 300]))
    chosen = choose_models([models / "base"], with_bases=True, listener=NoNotice())
    found = compare(chosen, read_queries(file), asking_preset(max_new_tokens=20))
    assert [len(made.prompt.ids) for made in found.answers[0].generations][1] == 256 - 20
    assert len(found.notices) == 1 and "prompts of entry 2" in found.notices[0]


def test_what_a_model_does_not_know_is_told(tmp_path):
    tokenizer = train_tokenizer("word", [" ".join(QUESTIONS) + ALPACA], 80)
    config = family_config("gpt2", vocab_size=tokenizer.vocab_size, context_length=64)
    make_folder(tmp_path / "words", config, tokenizer)
    file = tmp_path / "a.csv"
    file.write_text('question,fact\n"where is the cat, pray?",cat\nquo vadis,\n')
    chosen = choose_models([tmp_path / "words"], with_bases=True, listener=NoNotice())
    found = compare(chosen, read_queries(file), asking_preset(max_new_tokens=3))
    assert found.notices == ["words: not in its vocabulary: 'pray', 'quo', 'vadis'"]
    assert found.queries.facts == 1 and found.right(0, 1) is None
    for answer in found.answers[0].generations:
        assert len(answer.ids) == 3


def test_what_a_model_refuses_is_named(models, queries, tmp_path, capsys):
    common = ["--queries", queries]
    assert "no such model folder" in error_of(capsys, "--models", tmp_path / "none", *common)
    folder = Path(shutil.copytree(models / "base", tmp_path / "labels"))
    change(folder, lambda description: description.update(classifier={"labels": ["a", "b"]}))
    assert "is a classifier" in error_of(capsys, "--models", models / "base", folder, *common)
    (folder / "model.h5").write_bytes(b"nothing")
    change(folder, lambda description: description.pop("classifier"))
    assert "model.h5: is damaged" in error_of(capsys, "--models", models / "base", folder, *common)
    queries.write_text("fine\nsay <|endoftext|> now\n")
    assert run("--models", models / "base", *common) == 0
    assert "special tokens spelled by queries are text: '<|endoftext|>'" in capsys.readouterr().err
    queries.write_text("fine\n")
    refusing = ChatTemplate("{{ raise_exception('only on Sundays') }}", {})
    (Path(shutil.copytree(models / "base", tmp_path / "no")) / "chat_template.jinja").write_text(
        refusing.source
    )
    assert "line 1, to" in error_of(capsys, "--models", tmp_path / "no", *common)
    words = ["--models", models / "base", *common]
    assert "temperature=-1" in error_of(capsys, *words, "--temperature", "-1")
    assert "encoding" in error_of(capsys, *words, "--encoding", "nothing")
    assert "file with the queries" in error_of(capsys, *words, "--out", queries)
    assert "there is no folder" in error_of(capsys, *words, "--out", tmp_path / "x" / "a.json")
    assert "is a folder" in error_of(capsys, *words, "--out", tmp_path)


def test_sampling_is_greedy_until_told_otherwise():
    assert asking_preset().greedy and asking_preset(repetition_penalty=1.2).greedy
    assert not asking_preset(seed=3).greedy and not asking_preset(temperature=0.5).greedy
    assert asking_preset(seed=3, greedy=True).greedy


# What is shown


def made_up(texts, facts, bases, labels=None):
    """A comparison of models whose answers are `texts`: a list for each model."""
    queries = [Query(i + 1, f"question {i + 1}", "", fact) for i, fact in enumerate(facts)]
    answers = []
    for number, of_model in enumerate(texts):
        folder = SimpleNamespace(path=Path(f"models/{number}"))
        label = labels[number] if labels else f"m{number}"
        model = AskedModel(folder, SimpleNamespace(name="t"), label, bases[number])
        prompt = Prompt("", [1], [], 0)
        generations = [Generation(prompt, [5], text, [None], "end", 1.0) for text in of_model]
        answers.append(ModelAnswers(model, generations, 1.0))
    where = Queries("q.txt", "line", queries)
    return Comparison(where, asking_preset(), EngineConfig(), answers)


def test_the_table_by_hand():
    found = made_up([["no", "the same"], ["12 days.", " the same"]], ["12 days", None], [None, 0])
    assert list(table(found, 80)) == [
        "line 1: question 1",
        "  fact: 12 days",
        "  m0 (base)  wrong  no",
        "  m1         right  12 days.",
        "",
        "line 2: question 2",
        "  m0 (base)  the same",
        "  m1         (the same answer as m0)",
        "",
        "model      facts right  same as its base  ended by itself",
        "m0 (base)       0 of 1                 -           2 of 2",
        "m1              1 of 1            1 of 2           2 of 2",
    ]
    described = as_json(found)
    assert [model["facts_right"] for model in described["models"]] == [0, 1]
    assert [a["fact_right"] for a in described["queries"][0]["answers"]] == [False, True]
    assert [a["same_as_base"] for a in described["queries"][1]["answers"]] == [None, True]


EVIL = [
    "\x1b[31mred\x1b[0m\x07\r\n\n\n\nnext\tline\u202ereversed",
    "日本語の答えはとても長いので、端末の幅に合わせて折り返さなければなりません。" * 4,
    "\U0001f600" * 70 + " e\u0301" * 80,
    "x" * 400,
    "",
]


@pytest.mark.parametrize("width", [30, 80, 133])
@pytest.mark.parametrize("label", ["m", "a-model-whose-folder-has-a-very-long-name", "模型"])
def test_no_answer_breaks_the_table(width, label):
    found = made_up([EVIL, EVIL[::-1]], ["a fact"] * 5, [None, 0], [label, "other\x1b[2J"])
    lines = list(table(found, width))
    wide = max(width, 60)
    for line in lines[:-4]:
        assert all(c.isprintable() for c in line)
        # a wide character takes two columns, an accent upon the letter before it none
        doubled = sum("\u3000" <= c <= "\u9fff" or c > "\U0001f000" for c in line)
        assert len(line) + doubled - line.count("\u0301") <= wide
    text = "\n".join(lines)
    assert r"\x1b[31mred" in text and r"line\u202ereversed" in text and "(no answer)" in text
    assert "".join(text.split()).count("x" * 12) > 2


def test_the_command(models, queries, tmp_path, capsys):
    out = tmp_path / "answers.json"
    words = ["--models", models / "tuned", "--queries", queries, "--max-new-tokens", 5]
    assert run(*words, "--out", out) == 0
    shown = capsys.readouterr().out
    assert "line 3: what does the owner say\n" in shown and "base (base)" in shown
    assert shown.endswith(f"wrote {out}\n") and "not ended after 5 tokens" in shown
    assert "facts right" not in shown and "same as its base" in shown
    found, _ = json_of(capsys, *words)
    written = json.loads(out.read_text())
    for described in (found, written):
        for model in described["models"]:
            model.pop("seconds")
    assert written == found and [p.name for p in tmp_path.iterdir() if "answers" in p.name] == [
        "answers.json"
    ]


def test_tensorflow_is_not_imported(models, queries):
    words = ["ask", "--models", str(models / "tuned"), "--queries", str(queries), "--json"]
    code = (
        "import sys\nfrom minigpt_tf.__main__ import main\n"
        f"assert main({words} + ['--max-new-tokens', '2']) == 0\n"
        "heavy = {'tensorflow', 'keras', 'torch', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["models"]) == 2


def test_a_fine_tuned_model_knows_its_base(models, tmp_path, capsys):
    from minigpt_tf.config import FineTuningConfig, RecordsConfig
    from minigpt_tf.config.presets import fine_tuning_preset
    from minigpt_tf.finetuning.preparation import make_finetuning_plan
    from minigpt_tf.finetuning.trainer import finetune

    file = tmp_path / "rows.jsonl"
    rows = [
        {"question": q, "instruction": q, "output": "the cat", "fact": "cat"} for q in QUESTIONS
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows * 2))
    training = fine_tuning_preset(
        "full", steps=40, batch_size=3, learning_rate=0.01, dtype="float32", sample_tokens=2
    )
    plan = make_finetuning_plan(
        models / "plain",
        file,
        FineTuningConfig(method="full"),
        RecordsConfig(val_split=0.0),
        training,
    )
    finetune(plan, tmp_path / "cats")
    words = ["--models", tmp_path / "cats", "--queries", file, "--max-new-tokens", 8]
    found, _ = json_of(capsys, *words)
    assert [Path(model["model"]).name for model in found["models"]] == ["plain", "cats"]
    assert [model["facts_right"] for model in found["models"]] == [0, 6]
    answers = [query["answers"][1] for query in found["queries"]]
    assert all(answer["answer"] == "the cat" for answer in answers)
    assert all(answer["finish_reason"] == "end" for answer in answers)


RECORDS = [
    {"question": "where is the cat?", "answer": "The cat is in the garden."},
    {"question": "what does the owner say", "answer": "The owner says good morning."},
]


def test_records_are_put_before_each_question_and_others_are_not_asked(models, tmp_path, capsys):
    """The prompt is the template over the entries' turns; without an entry no token is made."""
    file, queries = tmp_path / "records.jsonl", tmp_path / "queries.txt"
    file.write_text("\n".join(map(json.dumps, RECORDS)))
    queries.write_text("where is the cat?\nwho wrote Hamlet?\n")
    chosen = choose_models([models / "base"], with_bases=False)
    library = Library([file])
    asked, unknown = (
        compare(chosen, read_queries(queries), SHORT, library=library).answers[0].generations
    )
    expected = chosen[0].template.prompt_ids(
        messages_with(library.find("where is the cat?"), "where is the cat?")
    )
    assert asked.prompt.ids == expected.tolist()
    assert (unknown.ids, unknown.text) == ([], UNKNOWN)
    words = ["ask", "--models", str(models / "base"), "--queries", str(queries), "--json"]
    assert main([*words, "--records", str(file), "--num-entries", "1"]) == 0
    described = json.loads(capsys.readouterr().out)
    found = [query["records"] for query in described["queries"]]
    assert [(r["source"], r["text"]) for r in found[0]] == [
        ("records.jsonl, line 1", "The cat is in the garden.")
    ]
    assert found[1] == [] and described["queries"][1]["answers"][0]["finish_reason"] == "records"
    assert main([*words, "--min-score", "0.5"]) == 2
    assert "--min-score: needs --records" in capsys.readouterr().err
    assert main([*words, "--records", str(tmp_path / "none.csv")]) == 2
    assert "none.csv: no such file" in capsys.readouterr().err
