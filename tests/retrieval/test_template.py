"""Training on prompts with entries: what is asked, what is trained, and what does not fit."""

import json

import numpy as np
import pytest

from minigpt_tf.config import FineTuningConfig
from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.finetuning.preparation import plan_finetuning
from minigpt_tf.records.prompts import Template
from minigpt_tf.records.schema import ask
from minigpt_tf.retrieval.context import messages_with
from minigpt_tf.retrieval.library import Library
from minigpt_tf.retrieval.template import RecordsTemplate
from minigpt_tf.text.chat_template import ChatTemplate, message
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.interop.folders import family_config, make_folder

ROWS = [
    {"instruction": f"Where is the {thing} kept?", "output": f"It is on the {place} shelf."}
    for thing, place in [("hammer", "upper"), ("saw", "lower"), ("drill", "middle")] * 3
]
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
QUESTION = "Where is my saw kept?"


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return file


@pytest.fixture(scope="module")
def tokenizer():
    words = [json.dumps(ROWS) + "Question: Repeat what the records say about it. Instruction"]
    return train_tokenizer("bpe", words, 400)


@pytest.fixture(params=[CHAT, None], ids=["chat", "alpaca"])
def plain(request, tokenizer):
    chat = ChatTemplate(request.param) if request.param else None
    return Template(tokenizer, chat, min(tokenizer.end_ids, default=None), "a template")


def test_a_prompt_is_the_one_that_is_asked_with_records(plain, rows):
    library = Library([rows])
    template = RecordsTemplate.behind(plain, library, 500)
    found = library.find(QUESTION)
    assert found[0].entry.text == "It is on the lower shelf."
    expected = plain.prompt_ids(messages_with(found, QUESTION))
    assert np.array_equal(template.prompt_ids(ask(QUESTION)), expected)


def test_only_the_last_answer_is_trained(plain, rows):
    template = RecordsTemplate.behind(plain, Library([rows]), 500)
    answer = "On the lower shelf, I think."
    row = template.encode([*ask(QUESTION), message("assistant", answer)])
    asked = template.prompt_ids(ask(QUESTION))
    assert np.array_equal(row.ids[: len(asked)], asked)
    assert not row.mask[: len(asked)].any() and row.mask[len(asked) :].all()
    assert plain.tokenizer.decode(row.ids[row.mask]).strip().startswith(answer)
    assert "It is on the lower shelf." in plain.tokenizer.decode(row.ids[~row.mask])


def test_where_nothing_is_found_the_question_stays_alone(plain, rows):
    template = RecordsTemplate.behind(plain, Library([rows]), 500)
    asked = [*ask("Who wrote Hamlet?"), message("assistant", "Not in our shelves.")]
    for ours, its in zip(template.encode(asked), plain.encode(asked), strict=True):
        assert np.array_equal(ours, its)
    assert np.array_equal(template.prompt_ids(asked[:1]), plain.prompt_ids(asked[:1]))


def test_of_entries_that_do_not_fit_fewer_are_taken(plain, tmp_path):
    file = tmp_path / "long.jsonl"
    names = ["upper", "lower", "middle"]
    texts = [{"question": f"{n} saw blade", "answer": f"saw blade {n} " * 20} for n in names]
    file.write_text("\n".join(map(json.dumps, texts)))
    library = Library([file])
    assert len(library.find("which saw blade")) == 3
    answer = message("assistant", "saw")

    def length(context):
        template = RecordsTemplate.behind(plain, library, context)
        return len(template.encode([*ask("which saw blade"), answer]).ids)

    whole = length(1000)
    fewer = length(whole - 2)
    assert whole > fewer > length(10) > 100  # the best entry is always there


def test_a_plan_has_the_entries_in_its_rows_and_names_what_it_found(rows, tokenizer, tmp_path):
    config = family_config("llama", vocab_size=tokenizer.vocab_size, context_length=256)
    make_folder(tmp_path / "base", config, tokenizer)
    alone = plan_finetuning(tmp_path / "base", rows)
    plan = plan_finetuning(tmp_path / "base", rows, records=(str(rows),))
    assert plan.describe()["rows_fingerprint"] != alone.describe()["rows_fingerprint"]
    assert plan.dataset.report.example.count("shelf") > alone.dataset.report.example.count("shelf")
    (line,) = [value for name, value in plan.report() if name == "records"]
    count = len(plan.dataset.train.records)
    assert line == f"3 entries of {rows}; {count} of {count} questions find some"
    assert plan.describe()["tuning"]["records"] == (str(rows),)


def test_what_cannot_be_used_is_refused(rows, tokenizer, tmp_path):
    config = family_config("llama", vocab_size=tokenizer.vocab_size, context_length=256)
    make_folder(tmp_path / "base", config, tokenizer)
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        plan_finetuning(tmp_path / "base", rows, records=(str(tmp_path / "nowhere.csv"),))
    with pytest.raises(ConfigError, match="--records is for --method full or lora"):
        plan_finetuning(tmp_path / "base", rows, method="classify", records=(str(rows),))
    with pytest.raises(ConfigError, match="records"):
        FineTuningConfig(records=str(rows))
