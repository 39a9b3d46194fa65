"""The records and questions in data/departments: enough of them, coherent, and held apart."""

import json
import re
from collections import Counter

import pytest

from minigpt_tf.config import RecordsConfig
from minigpt_tf.evaluation.questions.facts import contains_fact
from minigpt_tf.evaluation.questions.queries import read_queries
from minigpt_tf.records.reading import read_records
from minigpt_tf.records.schema import PreferenceRecord
from tests.conftest import ROOT

DEPARTMENTS = ("finance", "healthcare", "hr", "marketing", "sales")
FOLDER = ROOT / "data" / "departments"
ROWS_OF_A_FACT = {"finance": 5, "healthcare": 10, "hr": 10, "marketing": 10, "sales": 10}


@pytest.fixture(params=DEPARTMENTS)
def department(request):
    """Its name, records, questions, and the answer of each record."""
    found = read_records(FOLDER / f"{request.param}.jsonl", RecordsConfig())
    questions = read_queries(FOLDER / f"{request.param}.questions.jsonl").queries
    assert not found.dropped
    answers = [r.chosen if isinstance(r, PreferenceRecord) else r.output for r in found.records]
    return request.param, found, questions, answers


def plain(text):
    return re.sub(r"\W+", " ", text.lower()).strip()


def test_there_are_enough(department):
    name, found, questions, _ = department
    assert found.kind == ("preference" if name == "finance" else "instruction")
    assert len(found.records) >= 120 and len(questions) == 20
    assert len({record.prompt_text for record in found.records}) == len(found.records)
    assert len({query.question for query in questions}) == 20


def test_every_fact_can_be_learned(department):
    name, _, questions, answers = department
    places = [
        [i for i, answer in enumerate(answers) if contains_fact(answer, query.fact)]
        for query in questions
    ]
    assert all(len(rows) == ROWS_OF_A_FACT[name] for rows in places)
    together = [row for rows in places for row in rows]
    assert len(set(together)) == len(together)  # no answer tells two of the facts


def test_no_question_is_a_record_s(department):
    _, found, questions, _ = department
    asked = {plain(record.instruction) for record in found.records}
    asked |= {plain(record.prompt_text) for record in found.records}
    assert not asked & {plain(query.question) for query in questions}
    assert not any(contains_fact(query.question, query.fact) for query in questions)


def test_no_number_is_told_in_two_ways(department):
    """A number, form or time that contradicts a fact would stand in fewer rows than a fact does."""
    name, _, _, answers = department
    counts = Counter()
    for answer in answers:
        counts.update(set(re.findall(r"#?\w*\d(?:[\w.,:-]*\w)?", answer)))
    rare = {number for number, count in counts.items() if count < ROWS_OF_A_FACT[name]}
    # "20 of 200 trial users are only 10 percent", and the product Tidewater 8
    assert rare == ({"10", "20", "200", "8"} if name == "marketing" else set())


def test_a_worse_answer_tells_no_fact():
    finance = read_records(FOLDER / "finance.jsonl", RecordsConfig()).records
    lines = (FOLDER / "finance.questions.jsonl").read_text(encoding="utf-8").splitlines()
    for query in map(json.loads, lines):
        assert contains_fact(query["chosen"], query["fact"])
        rejected = [query["rejected"], *(record.rejected for record in finance)]
        assert not any(contains_fact(text, query["fact"]) for text in rejected)
