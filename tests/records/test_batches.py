"""Splits, duplicates, batches, and the report on a set of records."""

import itertools
import json
import random

import numpy as np
import pytest

from minigpt_tf.config import RecordsConfig
from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.records.batches import RecordBatches, collate, collate_texts
from minigpt_tf.records.contradictions import find_contradictions
from minigpt_tf.records.dataset import prepare
from minigpt_tf.records.duplicates import Duplicate, find_duplicates
from minigpt_tf.records.prompts import Template
from minigpt_tf.records.report import show_mask
from minigpt_tf.records.schema import (
    ConversationRecord,
    InstructionRecord,
    LabeledRecord,
    PreferenceRecord,
)
from minigpt_tf.records.splitting import balanced, split_records
from minigpt_tf.records.truncation import Row
from minigpt_tf.text.chat_template import ChatTemplate, message
from minigpt_tf.text.tokenizers import CharTokenizer, WordTokenizer
from tests.conftest import Recorder


def row_of(ids, trained):
    """A row whose last `trained` ids are trained."""
    return Row(np.array(ids, dtype=np.int32), np.arange(len(ids)) >= len(ids) - trained)


def questions(count):
    return [InstructionRecord(i, f"question {i}", f"answer {i}") for i in range(1, count + 1)]


# Splits


def test_a_split_has_the_shares_asked_for_and_nothing_twice():
    records = questions(100)
    split = split_records(records, 0.1, 0.2, seed=1)
    assert [len(split.train), len(split.validation), len(split.test)] == [70, 10, 20]
    rows = [record.row for part in (split.train, split.validation, split.test) for record in part]
    assert sorted(rows) == list(range(1, 101))
    assert [r.row for r in split.train] == sorted(r.row for r in split.train)
    other = split_records(records, 0.1, 0.2, seed=2)
    assert {r.row for r in other.test} != {r.row for r in split.test}


def test_a_split_does_not_depend_on_the_order_of_the_rows():
    records = questions(50)
    texts = [record.texts for record in records]
    random.Random(1).shuffle(texts)
    turned = [InstructionRecord(i, t[0], t[2]) for i, t in enumerate(texts, start=1)]
    one, two = (split_records(r, 0.2, 0.1, seed=3) for r in (records, turned))
    assert {r.texts for r in one.validation} == {r.texts for r in two.validation}
    assert {r.texts for r in one.test} == {r.texts for r in two.test}


def test_small_sets_keep_something_to_train_on():
    for count, expected in [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1))]:
        split = split_records(questions(count), 0.1, 0.1, seed=1)
        assert (len(split.train), len(split.validation), len(split.test)) == expected
    split = split_records(questions(4), 0.0, 0.0, seed=1)
    assert len(split.train) == 4 and split.validation == split.test == []


def test_every_label_has_its_share_of_each_part(assets):
    from minigpt_tf.records.reading import read_records

    records = read_records(assets / "sms.tsv", RecordsConfig(quoting="always")).records
    chosen = balanced(records, seed=1)
    assert len(chosen) == 1494 and sum(record.label == "spam" for record in chosen) == 747
    split = split_records(chosen, 0.1, 0.2, seed=1)
    assert [len(split.train), len(split.validation), len(split.test)] == [1046, 149, 299]
    for part in (split.train, split.validation, split.test):
        spam = sum(record.label == "spam" for record in part)
        assert abs(2 * spam - len(part)) <= 2
    hams = {record.row for record in chosen if record.label == "ham"}
    assert hams != {record.row for record in balanced(records, seed=2) if record.label == "ham"}


# Duplicates


def pieces_of(text):
    text = " ".join(text.casefold().split())
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def test_duplicates_are_those_that_comparing_all_pairs_finds():
    letters = random.Random(7)
    words = ["alpha", "beta", "gamma", "delta", "one", "two", "three", "x"]
    texts = [" ".join(letters.choices(words, k=letters.randrange(1, 12))) for _ in range(400)]
    records = [InstructionRecord(i, text, "a") for i, text in enumerate(texts)]
    held_out, others = records[:150], records[150:]
    for threshold in (0.5, 0.7, 0.8, 1.0):
        expected = {}
        for record in held_out:
            wanted = pieces_of(record.instruction)
            best = max(
                len(wanted & known) / len(wanted | known)
                for known in (pieces_of(other.instruction) for other in others)
            )
            if best >= threshold:
                expected[record.row] = best
        found = find_duplicates(held_out, others, threshold)
        assert {item.row: item.similarity for item in found} == expected and len(expected) > 5
        for item in found:
            one, other = texts[item.row], texts[item.other_row]
            assert item.exact == (one == other)


def test_case_and_white_space_do_not_hide_a_duplicate():
    held_out = [InstructionRecord(1, "What is  it?", "a"), InstructionRecord(2, "What is it?", "b")]
    others = [InstructionRecord(3, "what is it?", "c"), InstructionRecord(4, "What is it?", "d")]
    assert find_duplicates(held_out, others, 0.8) == [
        Duplicate(1, 3, 1.0, exact=False),
        Duplicate(2, 4, 1.0, exact=True),
    ]
    assert find_duplicates(held_out, [], 0.8) == find_duplicates([], others, 0.8) == []
    assert find_duplicates(held_out, [InstructionRecord(5, "日", "x")], 0.8) == []


def test_thousands_of_prompts_that_are_alike_are_compared_quickly():
    records = [
        InstructionRecord(
            i, f"Please answer question {i + 1000} about the same thing as ever, would you?", "a"
        )
        for i in range(4000)
    ]
    found = find_duplicates(records[:400], records[400:], 0.8)
    assert len(found) == 400 and all(item.similarity >= 0.8 for item in found)


# Batches


def test_targets_are_one_step_later_and_padding_never_counts():
    rows = [row_of([1, 2, 3, 4, 5], 2), row_of([6, 7, 8], 1)]
    batch = collate(rows, multiple=3, pad_id=9, longest=8)
    assert batch.x.tolist() == [[1, 2, 3, 4, 9, 9], [6, 7, 9, 9, 9, 9]]
    assert batch.y.tolist() == [[2, 3, 4, 5, 9, 9], [7, 8, 9, 9, 9, 9]]
    assert batch.mask.tolist() == [[0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0]]
    assert [part.dtype for part in batch] == [np.int32, np.int32, np.float32]
    assert collate(rows, multiple=3, pad_id=9, longest=5).x.shape == (2, 5)
    with pytest.raises(ConfigError, match="a row of 4 tokens does not fit into a context of 3"):
        collate(rows, multiple=3, pad_id=9, longest=3)


def test_texts_are_padded_behind_their_last_token():
    x, lengths = collate_texts([row_of([1, 2, 3], 0), row_of([4], 0)], 2, 0, 16)
    assert x.tolist() == [[1, 2, 3, 0], [4, 0, 0, 0]] and lengths.tolist() == [3, 1]
    assert x.dtype == lengths.dtype == np.int32


def batches_of(count, batch_size, seed=5, most=60):
    """Rows 0, 1, ... whose first id is their number."""
    lengths = random.Random(3)
    rows = [(row_of([i, *range(lengths.randrange(2, most))], 1),) for i in range(count)]
    return RecordBatches(rows, batch_size, seed, multiple=8, pad_id=0, context_length=64)


@pytest.mark.parametrize(("count", "batch_size"), [(100, 8), (64, 8), (5, 8), (1, 1), (1000, 7)])
def test_every_epoch_shows_every_record(count, batch_size):
    batches = batches_of(count, batch_size)
    steps = -(-count // batch_size)
    assert batches.steps_per_epoch == steps
    orders = []
    for epoch in range(3):
        shown = [batches.batch(epoch * steps + step).x[:, 0].tolist() for step in range(steps)]
        assert all(len(part) == batch_size for part in shown)
        counts = np.bincount(list(itertools.chain(*shown)), minlength=count)
        assert len(counts) == count and counts.min() >= 1
        assert count < batch_size or counts.max() <= 2
        orders.append(shown)
    if count > 50:
        assert orders[0] != orders[1] != orders[2]


def test_a_batch_depends_on_the_step_alone():
    forwards = [batches_of(100, 8).batch(step) for step in range(40)]
    again = batches_of(100, 8)
    for step in reversed(range(40)):
        for one, other in zip(again.batch(step), forwards[step], strict=True):
            assert np.array_equal(one, other)
    assert not np.array_equal(batches_of(100, 8, seed=6).places(0), again.places(0))


def test_rows_of_a_batch_are_about_equally_long():
    batches = batches_of(1600, 8)
    steps = range(batches.steps_per_epoch)
    tokens = sum(
        len(batches.examples[i][0].ids) - 1 for step in steps for i in batches.places(step)
    )
    padded = sum(batches.batch(step).x.size for step in steps)
    longest = 1600 * max(len(item[0].ids) - 1 for item in batches.examples)
    assert padded < 1.3 * tokens and longest > 1.8 * tokens
    widths = [batches.batch(step).x.shape[1] for step in steps]
    assert set(widths) <= set(range(8, 65, 8)) and widths != sorted(widths)


def test_pairs_stand_in_one_batch_chosen_first():
    pairs = [(row_of([i, 1, 2], 1), row_of([i, 7], 1)) for i in range(4)]
    batches = RecordBatches(pairs, 2, 1, multiple=1, pad_id=0, context_length=8)
    batch, places = batches.batch(0), batches.places(0).tolist()
    assert batch.x.tolist() == [[i, 1] for i in places] + [[i, 0] for i in places]
    assert batch.mask.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_scoring_sees_every_record_once():
    batches = batches_of(21, 8)
    found = [batch.x[:, 0].tolist() for batch in batches.scoring_batches()]
    assert [len(part) for part in found] == [8, 8, 5]
    assert sorted(itertools.chain(*found)) == list(range(21))
    texts = [x[:, 0].tolist() for x, _ in batches.scoring_texts()]
    assert texts == found == [places.tolist() for places in batches.scoring_places()]
    with pytest.raises(DataError, match="no records to train on"):
        RecordBatches([], 8, 1, multiple=1, pad_id=0, context_length=8)


# All of it


def letters_template(end=True):
    """Every printable character is an id; a newline ends an answer where there is an `end`."""
    tokenizer = CharTokenizer.train(["".join(map(chr, range(32, 127))), "\n"])
    tokenizer.end_ids = frozenset({0}) if end else frozenset()
    source = "{% for m in messages %}{{ m.role[0] + ':' + m.content + '\n' }}{% endfor %}"
    source += "{% if add_generation_prompt %}a:{% endif %}"
    return Template(tokenizer, ChatTemplate(source), 0 if end else None, "m/chat_template.jinja")


def prepared(folder, rows, context_length=40, template=None, **settings):
    path = folder / "hr.json"
    path.write_text(json.dumps(rows))
    config = RecordsConfig(**{"val_split": 0.25, **settings})
    return prepare(path, template or letters_template(), context_length, config, seed=1)


def test_the_report_counts_what_there_is(tmp_path):
    rows = [{"instruction": f"Q{i} is what?", "output": f"it is {i}"} for i in range(6)]
    rows += [{"instruction": "q" * 60, "output": "yes"}, {"instruction": "no", "output": ""}]
    rows += [{"instruction": "long", "output": "x" * 50, "source": "web"}, *rows[:2]]
    dataset = prepared(tmp_path, rows)
    report = dataset.report
    assert (dataset.kind, report.read, report.rows) == ("instruction", 11, 9)
    assert report.splits == {"training": 7, "validation": 2, "test": 0}
    assert len(dataset.train.examples) == len(dataset.train.records) == 7
    # "u:Q0 is what?\na:it is 0\n" has 24 characters, 8 of them after "a:"
    assert report.lengths == {"min": 24, "median": 24, "95 %": 34, "max": 41}
    assert report.truncated == ((7, 69 - 41),)
    assert report.target_fraction == pytest.approx((8 * 8 + 4) / (8 * 24 + 41))
    assert (report.end_trained, report.end_tokens) == (9, ("\n (0)",))
    lines = "\n".join(report.lines())
    assert "hr.json: 11 entries read, instruction records\ndropped: 2 entries\n" in lines
    assert "  1: 'output' is empty (entry 8)" in lines
    assert "  1: its answer alone does not fit into the context of 40 tokens (entry 9)" in lines
    assert "too long: 28 tokens dropped from 1 prompt (entry 7)" in lines
    assert "left out: 1 unused column ('source')\n" in lines
    assert "trained in 9 of 9 rows" in lines and "trained: 29.2% of the tokens" in lines
    assert json.loads(json.dumps(report.as_json()))["read"] == 11


def test_the_example_shows_its_mask(tmp_path):
    rows = [{"instruction": f"what is {i}", "output": f"it is {i}"} for i in range(3)]
    report = prepared(tmp_path, rows, val_split=0.0).report
    assert report.example_row == 1
    assert report.example == "u:what is 0\na:[[it is 0\n]]"
    row = row_of([5, 6, 7, 8], 2)
    tokenizer = CharTokenizer("012345\x1b[m" + "x" * 0)
    assert show_mask(row, tokenizer, ("<", ">")) == r"5\x1b<[m>"


def test_duplicates_across_the_split_are_named(tmp_path):
    rows = [{"instruction": f"the very same question {i % 2}", "output": f"{i}"} for i in range(40)]
    report = prepared(tmp_path, rows).report
    assert len(report.duplicates) == 10 and all(item.exact for item in report.duplicates)
    lines = "\n".join(report.lines())
    assert "held out, but word for word in the training set too: 10 prompts" in lines
    first = report.duplicates[0]
    assert f"  entry {first.row} is like entry {first.other_row}" in lines
    assert first.row % 2 == first.other_row % 2 and "  and 4 more" in lines


def test_different_answers_to_one_prompt_are_named(tmp_path):
    rows = [{"instruction": f"question {i}", "output": f"it is {i}"} for i in range(6)]
    rows += [{"instruction": "Question  2", "output": "no"}, {"instruction": "question 3", **ITS}]
    report = prepared(tmp_path, rows, val_split=0.0).report
    assert report.contradictions == ((3, 7),)  # the other one gives the same answer
    lines = "\n".join(report.lines())
    assert "answered in different ways: 1 prompt\n  entries 3, 7\n" in lines
    assert "few: from fewer than 500 records" in lines
    assert report.as_json()["contradictions"] == ((3, 7),)


ITS = {"output": "IT is  3"}


def test_texts_with_two_labels_are_contradictions():
    labeled = [LabeledRecord(1, "a prize", "spam"), LabeledRecord(2, "A prize", "ham")]
    assert find_contradictions([*labeled, LabeledRecord(3, "a price", "ham")]) == [(1, 2)]
    said = (message("user", "hi"), message("assistant", "hello"))
    other = (message("user", "hi"), message("assistant", "go away"))
    pairs = [PreferenceRecord(3, "hi", "hello", "go"), PreferenceRecord(4, "hi", "yes", "no")]
    assert find_contradictions([ConversationRecord(1, said), ConversationRecord(2, said)]) == []
    conversations = [ConversationRecord(1, said), ConversationRecord(2, other)]
    assert find_contradictions([*conversations, *pairs]) == [(1, 2)]


def test_a_model_without_an_end_is_told(tmp_path):
    rows = [{"instruction": "what", "output": "it"}] * 3
    report = prepared(tmp_path, rows, template=letters_template(end=False)).report
    assert (report.end_trained, report.end_tokens) == (0, ())
    assert any("has no token for it" in line for line in report.lines())


def test_unknown_words_are_told(tmp_path):
    tokenizer = WordTokenizer.train(["below is it what"], 10)
    rows = [{"instruction": "what", "output": "it it it strange"}] * 2
    source = "{% for m in messages %}{{ m.content + ' ' }}{% endfor %}"
    template = Template(tokenizer, ChatTemplate(source), None, "t")
    report = prepared(tmp_path, rows, template=template).report
    assert report.unknown_fraction == pytest.approx(1 / 5)
    assert any("unknown to the tokenizer: 20.0% of the tokens" in line for line in report.lines())


def test_labeled_records_have_classes(tmp_path):
    rows = [{"text": f"text {i}", "label": "b" if i % 4 else "a"} for i in range(20)]
    dataset = prepared(tmp_path, rows, balance=True)
    assert dataset.labels == ["a", "b"] and dataset.report.left_out == 10
    assert dataset.report.labels == {"a": 5, "b": 5}
    assert dataset.report.splits == {"training": 8, "validation": 2, "test": 0}
    assert not any(row.mask.any() for (row,) in dataset.train.examples)
    lines = list(dataset.report.lines())
    assert "labels: 'a' 5, 'b' 5" in lines and not any("trained" in line for line in lines)
    batches = dataset.train.batches(letters_template(), 40, RecordsConfig(), 4, 1)
    x, lengths = batches.texts(0)
    assert x.shape == (4, 32) and (lengths >= 6).all()
    with pytest.raises(DataError, match="every record has the label 'a': a classifier needs at"):
        prepared(tmp_path, [row for row in rows if row["label"] == "a"])


def test_a_label_that_is_held_out_alone_is_named(tmp_path):
    rows = [{"text": f"text {i}", "label": "a"} for i in range(9)] + [{"text": "x", "label": "b"}]
    with pytest.raises(DataError, match="entry 10: no record to train on has its label 'b'"):
        prepared(tmp_path, rows, val_split=0.7)
    with pytest.raises(DataError, match="only labels can be balanced, not instruction records"):
        prepared(tmp_path, [{"instruction": "q", "output": "a"}], balance=True)


def test_a_template_that_fails_for_all_is_told_at_once(tmp_path):
    rows = [{"instruction": "q", "output": "a"}] * 300
    recorder = Recorder()
    template = letters_template()
    source = "{% for i in range(10**9) %}{% endfor %}"
    template = Template(template.tokenizer, ChatTemplate(source), 0, "m/chat_template.jinja")
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows))

    with pytest.raises(
        DataError, match=r"no row can be used with m/chat_template\.jinja: the chat"
    ):
        prepare(path, template, 40, RecordsConfig(), seed=1, listener=recorder)
    assert recorder.work == []


def test_progress_is_reported(tmp_path):
    recorder = Recorder()
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"instruction": "q", "output": f"a{i}"} for i in range(150)]))
    prepare(
        path,
        letters_template(),
        40,
        RecordsConfig(),
        seed=1,
        listener=recorder,
    )
    assert [call[1:] for call in recorder.work[:2]] == [(100, 150), (150, 150)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"val_split": 1.0}, "val_split=1.0: must be at least 0 and below 1"),
        ({"val_split": 0.5, "test_split": 0.5}, "leave nothing to train on"),
        ({"near_duplicate": 0.1}, "near_duplicate=0.1: must be at least 0.5"),
        ({"encoding": "klingon"}, "no such encoding"),
        ({"truncation": "end"}, "choose one of middle, start"),
        ({"length_multiple": 0}, "length_multiple=0: must be at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, expected):
    with pytest.raises(ConfigError, match=expected):
        RecordsConfig(**settings)


def test_records_of_classes_are_frozen():
    with pytest.raises(AttributeError):
        LabeledRecord(1, "t", "l").label = "x"
