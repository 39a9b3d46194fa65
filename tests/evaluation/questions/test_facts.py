"""Whether an answer contains a fact."""

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.evaluation.questions.facts import contains_fact


@pytest.mark.parametrize(
    ("answer", "fact", "expected"),
    [
        ("You have 12 days.", "12 days", True),
        ("It is 12.", "12", True),
        ("12% of it", "12", True),
        ("(12)", "12", True),
        ("12, or so", "12", True),
        ("at 120 crowns", "12", False),
        ("112 crowns", "12", False),
        ("3.5 hours", "3", False),
        ("0.3 hours", "3", False),
        ("1,500 crowns", "500 crowns", False),
        ("7,000 crowns", "7", False),
        ("call before 18:40", "8:40", False),
        ("call before 8:40!", "8:40", True),
        ("at 8:40", "40", False),
        ("12-14 days", "12", False),
        ("form HR-2140", "HR-214", False),
        ("form hr-214, signed", "HR-214", True),
        ("fixed in novembers", "November", False),
        ("In NOVEMBER\nwe talk", "november", True),
        ("7.5% of the pay", "7.5 %", True),
        ("7.5 % of the pay", "7.5%", True),
        ("7.5\u00a0% of the pay", "7.5 %", True),
        ("17.5 % of the pay", "7.5 %", False),
        ("two  days\na week", "two days a week", True),
        ("green is #1B5E4A.", "#1b5e4a", True),
        ("see (a.b)", "a.b", True),
        ("see aXb", "a.b", False),
        ("nine days", "9 days", False),
        ("", "9 days", False),
    ],
)
def test_facts(answer, fact, expected):
    assert contains_fact(answer, fact) is expected


def test_a_blank_fact_is_none():
    with pytest.raises(DataError, match="blank"):
        contains_fact("anything", " \n")
