"""Entries of records and documents, how they are ranked, and what goes into a prompt."""

import json
import math
import threading
from collections import Counter

import pytest
from openpyxl import Workbook

from minigpt_tf.config import RetrievalConfig
from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.retrieval.context import messages_with
from minigpt_tf.retrieval.entries import Entry, passages, read_entries
from minigpt_tf.retrieval.index import WEAKEST, Index
from minigpt_tf.retrieval.library import KEPT_NAME, Library
from minigpt_tf.retrieval.terms import terms

ROWS = [
    {"question": "When are you open?", "answer": "We open at 8:00."},
    {"instruction": "opening time", "input": "of the shop", "output": "We open at 8:00."},
    {"prompt": "Is there parking?", "chosen": "Behind the house.", "rejected": "No."},
    {"product": "Loam 3", "price": 350, "colors": ["red", "green"]},
    {
        "messages": [
            {"role": "user", "content": "Can I pay by card?"},
            {"role": "assistant", "content": "Cards are taken from 5 euros on."},
        ]
    },
    {"question": "And this?", "answer": ""},
]


def jsonl(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The invoices, paid LATE; an invoice.", ["invoic", "paid", "late", "invoic"]),
        ("Größe café CAFÉ", ["gross", "cafe", "cafe"]),
        ("営業時間", ["営業", "業時", "時間"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("7.5 % of FN-20", ["7", "5", "fn", "20"]),
        ("what is it?", []),
    ],
)
def test_terms_are_words_without_case_accents_and_endings(text, expected):
    assert terms(text) == expected


def test_rows_of_every_layout_become_entries(tmp_path):
    found = read_entries([jsonl(tmp_path / "a.jsonl", ROWS)])
    assert found.entries == [
        Entry(
            ("When are you open?", "opening time of the shop"),
            "We open at 8:00.",
            "a.jsonl, line 1",
        ),
        Entry(("Is there parking?",), "Behind the house.", "a.jsonl, line 3"),
        Entry(("Loam 3",), "product: Loam 3. price: 350. colors: red, green", "a.jsonl, line 4"),
        Entry(("Can I pay by card?",), "Cards are taken from 5 euros on.", "a.jsonl, line 5"),
        Entry(("And this?",), "question: And this?", "a.jsonl, line 6"),
    ]


ASKED, SAID = "opening hours?", "We open at 8:00."


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}]},
        {
            "messages": [
                {"role": "User", "content": [{"type": "text", "text": ASKED}]},
                {"role": "assistant", "content": [{"type": "text", "text": SAID}]},
            ]
        },
        {
            "prompt": [{"role": "user", "content": ASKED}],
            "completion": [{"role": "assistant", "content": SAID}],
        },
        {
            "prompt": [{"role": "user", "content": ASKED}],
            "chosen": [{"role": "assistant", "content": SAID}],
            "rejected": [{"role": "assistant", "content": "Never."}],
        },
    ],
    ids=["ShareGPT", "OpenAI", "TRL", "TRL pair"],
)
def test_conversations_of_others_become_entries(tmp_path, row):
    (entry,) = read_entries([jsonl(tmp_path / "a.jsonl", [row])]).entries
    assert (entry.questions, entry.text) == ((ASKED,), SAID)


def test_sheets_and_tables_are_read_by_their_headers(tmp_path):
    book = Workbook()
    for row in (["Room", "Seats"], ["Alder", 12], [None, None], ["Birch", 4.5]):
        book.active.append(row)
    book.save(tmp_path / "rooms.xlsx")
    (tmp_path / "faq.csv").write_text("Question;Answer\nfees?;None.\n", encoding="utf-8")
    found = read_entries([tmp_path / "rooms.xlsx", tmp_path / "faq.csv"]).entries
    assert [(e.text, e.source) for e in found] == [
        ("Room: Alder. Seats: 12", "rooms.xlsx, row 2"),
        ("Room: Birch. Seats: 4.5", "rooms.xlsx, row 4"),
        ("None.", "faq.csv, line 2"),
    ]


def test_a_document_becomes_passages_under_its_headings():
    long = " ".join(f"Sentence {i} has five words." for i in range(40))
    text = f"# Leave\n\nTwenty days.\n\nAsk early.\n\n## Night shifts\nPaid with 22 %.\n\n{long}"
    found = list(passages(text))
    assert found[:2] == [
        ("Leave", "Twenty days.\nAsk early.", 3),
        ("Night shifts", "Paid with 22 %.", 8),
    ]
    rest = found[2:]
    assert " ".join(part for _, part, _ in rest) == long
    assert all(head == "Night shifts" and len(part.split()) <= 80 for head, part, _ in rest)


def test_scores_are_those_of_the_formula(monkeypatch):
    texts = ["red apples and red pears", "green apples", "blue sky over a long road home"]
    index = Index([Entry(("",), text, str(i)) for i, text in enumerate(texts)])
    question = "red apples tomorrow"
    counts = [Counter(terms(text)) for text in texts]
    mean = sum(map(len, map(terms, texts))) / 3
    scores, highest = [0.0] * 3, 0.0
    for term in terms(question):
        holders = sum(term in c for c in counts)
        idf = math.log(1 + (3 - holders + 0.5) / (holders + 0.5))
        highest += idf * 2.2
        for i, c in enumerate(counts):
            norm = 1.2 * (0.25 + 0.75 * sum(c.values()) / mean)
            scores[i] += idf * c[term] * 2.2 / (c[term] + norm)
    assert [item.entry.source for item in index.search(question, 5)] == ["0"]  # 1 is too weak
    assert 0 < scores[1] < WEAKEST * scores[0]
    monkeypatch.setattr("minigpt_tf.retrieval.index.WEAKEST", 0)
    found = index.search(question, 5)
    assert [item.entry.source for item in found] == ["0", "1"]
    for item in found:
        assert item.score == pytest.approx(scores[int(item.entry.source)] / highest)
    assert found[0].terms == (2, 3) and found[1].terms == (1, 3)
    assert found[0].answers(0.2) and not found[1].answers(0.0)


def test_a_prompt_shows_how_to_answer_with_the_closest_wording(tmp_path):
    index = Index(read_entries([jsonl(tmp_path / "a.jsonl", ROWS)]).entries)
    found = index.search("What is the opening time? Is there parking?", 2)
    messages = messages_with(found, "opening time?")
    assert [m["role"] for m in messages] == ["user", "assistant"] * 2 + ["user"]
    assert messages[-2]["content"] == found[0].entry.text
    assert (
        "Question: opening time of the shop\n" in messages[-3]["content"] + messages[0]["content"]
    )
    assert messages[-1]["content"].startswith("Question: opening time?\n")


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path, monkeypatch):
    file = jsonl(tmp_path / "a.jsonl", ROWS)
    folder = tmp_path / "model"
    folder.mkdir()
    library = Library([file], folder=folder)
    assert library.find("opening time")[0].entry.text == "We open at 8:00."
    file.write_text(file.read_text().replace("8:00", "9:30 sharp"))
    assert library.find("opening time")[0].entry.text == "We open at 9:30 sharp."
    monkeypatch.setattr("minigpt_tf.retrieval.library.read_entries", lambda *_: pytest.fail("read"))
    again = Library([file], folder=folder)
    assert again.find("opening time") == library.find("opening time") and len(again) == 5


@pytest.mark.parametrize("damage", ["{", "[]", '{"key": 1}', '{"entries": 5}'])
def test_damaged_kept_entries_are_made_anew(tmp_path, damage):
    file, folder = jsonl(tmp_path / "a.jsonl", ROWS), tmp_path / "model"
    folder.mkdir()
    Library([file], folder=folder)
    kept = (folder / KEPT_NAME).read_text()
    (folder / KEPT_NAME).write_text(damage)
    assert len(Library([file], folder=folder)) == 5
    assert (folder / KEPT_NAME).read_text() == kept
    other = json.loads(kept)
    other["entries"][0][1] = 7
    (folder / KEPT_NAME).write_text(json.dumps(other))
    assert len(Library([file], folder=folder)) == 5


def test_a_library_is_the_same_in_several_threads(tmp_path):
    file = jsonl(tmp_path / "a.jsonl", ROWS)
    library = Library([file])
    expected = library.find("pay by card")
    wrong: list[object] = []

    def ask():
        for number in range(50):
            if number % 10 == 0:
                file.touch()
            if library.find("pay by card") != expected:
                wrong.append(number)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and expected[0].entry.text == "Cards are taken from 5 euros on."


def test_what_cannot_be_found_in_is_refused_by_name(tmp_path):
    (tmp_path / "empty.csv").write_text("question,answer\n,\n")
    for name, said in (("none.csv", "no such file"), ("empty.csv", ""), ("x.zip", "not read")):
        if name == "x.zip":
            (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(DataError, match=rf"{name}.*{said}"):
            Library([tmp_path / name])
    with pytest.raises(ConfigError, match="from 0 to 1"):
        RetrievalConfig(min_score=2)
    with pytest.raises(ConfigError, match="num_entries"):
        RetrievalConfig(num_entries=0)
