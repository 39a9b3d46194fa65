"""What holds for any text, any records and any logits: drawn and shrunk by hypothesis."""

import csv
import io
import json
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt_tf.config import RecordsConfig, SamplingConfig
from minigpt_tf.inference.samplers import make_sampler
from minigpt_tf.records.reading import read_records
from minigpt_tf.terminal import KEPT, STEERING, without_controls
from minigpt_tf.text.tokenizers import train_tokenizer

SOME = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,  # the same examples each time
    database=None,
    suppress_health_check=list(HealthCheck),
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
NOTHING = np.array([], dtype=int)


@pytest.fixture(scope="module")
def tokenizers():
    texts = ["who is hardy? a friend of ramanujan. 日本語 é"]
    return {kind: train_tokenizer(kind, texts, 300) for kind in ("bpe", "char", "word")}


@SOME
@given(text=TEXT)
def test_bytes_hold_every_text(tokenizers, text):
    tokenizer = tokenizers["bpe"]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and all(0 <= i < tokenizer.vocab_size for i in ids)


@SOME
@given(text=TEXT)
def test_characters_and_words_lose_only_what_they_do_not_know(tokenizers, text):
    char = tokenizers["char"]
    known = set(char.decode(range(1, char.vocab_size)))
    kept = char.decode(char.encode(text))
    assert [c for c in kept if c in known] == [c for c in text if c in known]
    words = tokenizers["word"].encode(text)
    assert all(0 <= i < tokenizers["word"].vocab_size for i in words)


@SOME
@given(text=st.text(max_size=80))
def test_no_text_steers_a_terminal(text):
    shown = without_controls(text)
    assert not {c for c in shown if unicodedata.category(c) in STEERING} - set(KEPT)
    assert without_controls(shown) == shown
    assert "".join(c for c in text if c.isprintable()) in shown or not text.isprintable()


@SOME
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=2, max_size=6))
def test_records_mean_the_same_in_every_format(tmp_path_factory, rows):
    """JSON, JSONL and quoted CSV of the same texts; a line end is \\n, a blank cell is none."""

    def tidy(text):
        return text.replace("\r\n", "\n").replace("\r", "\n")

    folder = tmp_path_factory.mktemp("rows")
    named = [{"instruction": "a" + first, "output": second + "z"} for first, second in rows]
    (folder / "a.json").write_text(json.dumps(named))
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["instruction", "output"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(named)
    (folder / "a.csv").write_bytes(table.getvalue().encode())
    expected = [(tidy(row["instruction"]), tidy(row["output"])) for row in named]
    for name in ("a.json", "a.jsonl", "a.csv"):
        found = read_records(folder / name, RecordsConfig()).records
        assert [(tidy(r.instruction), tidy(r.output)) for r in found] == expected, name


LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12)


@SOME
@given(
    logits=LOGITS,
    temperature=st.floats(0.1, 3),
    top_k=st.integers(1, 12),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_sampler_takes_what_the_filters_leave(logits, temperature, top_k, top_p, min_p, seed):
    """Against the definitions, written out: each filter on what the one before has left."""
    found = np.array(logits, np.float32)
    config = SamplingConfig(
        **{"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    )
    chosen, logprob = make_sampler(config, NOTHING)(found, [0])
    exact = found.astype(np.float64)
    share = np.exp(exact - exact.max())
    assert logprob == pytest.approx(np.log(share[chosen] / share.sum()), abs=1e-4)
    order = sorted(range(len(exact)), key=lambda i: (-exact[i], i))
    # A little more than the definition leaves: at an edge rounding decides.
    left = [i for i in order[:top_k] if exact[i] >= exact[order[0]] - 200]
    cooled = np.exp((exact - exact.max()) / temperature)
    total = cooled[left].sum()
    before = np.cumsum([cooled[i] / total for i in left]) - [cooled[i] / total for i in left]
    left = [i for i, sum_before in zip(left, before, strict=True) if sum_before <= top_p + 1e-6]
    left = [i for i in left if cooled[i] >= min_p * cooled[left[0]] * (1 - 1e-6)]
    assert any(exact[chosen] == exact[i] for i in left)
    again, _ = make_sampler(config, NOTHING)(found, [0])
    assert again == chosen


@SOME
@given(logits=LOGITS)
def test_greedy_is_the_first_of_the_largest(logits):
    found = np.array(logits, np.float32)
    chosen, _ = make_sampler(SamplingConfig(greedy=True), NOTHING)(found, [0])
    assert chosen == int(found.argmax())
