"""Every public name in eight threads at once: the results are those of one thread."""

import dataclasses
import itertools
import json
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.evaluation.measurement import load_keras
from tests.conftest import SAMPLE, Recorder, tiny_plan
from tests.inference.test_threads import in_threads

TEXT = SAMPLE.read_text()
TEXTS = [" ".join(f"{TEXT} {TEXT}".split()[place : place + 15]) for place in range(300)]
RECORDS = [{"instruction": f"count {i}", "output": f"he was {i}"} for i in range(40)]
SIZES = {"embed_dim": 16, "num_heads": 2, "num_kv_heads": 1, "num_layers": 1, "head_dim": 8}

House = namedtuple("House", "folder modern adapter tokenizer model keras ids library rows out")
"""What the work is done with."""
numbers = itertools.count()


@pytest.fixture(scope="module")
def house(trained_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("threads")
    rows = out / "rows.json"
    rows.write_text(json.dumps(RECORDS))
    sizes = {**SIZES, "context_length": 192, "tokenizer": "bpe", "vocab_size": 300}
    modern = mg.train(SAMPLE, out / "modern", preset="modern", steps=1, **sizes).out
    settings = {"method": "lora", "steps": 1, "rank": 2, "batch_size": 2}
    tuned = mg.finetune(modern, rows, out / "tuned", **settings).out
    contents = mg.load_folder(trained_folder)
    model = mg.load(trained_folder, mg.EngineConfig(threads=1))
    ids = [np.resize(model.tokenizer.encode(text), 33) for text in TEXTS]
    return House(
        *(trained_folder, modern, tuned / "adapter.safetensors", model.tokenizer, model),
        *(load_keras(contents), ids, mg.Library([rows]), rows, out),
    )


def new(house):
    """The path of a folder that is not there yet."""
    return house.out / f"new-{next(numbers)}"


def plain(value):
    """A value that can be compared: arrays as bytes, models and folders by their weights."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, mg.TextGenerator):
        return value.generate("he was", max_new_tokens=5, seed=1).ids
    if isinstance(value, Path):
        return plain(mg.load(value, mg.EngineConfig(threads=1)))
    if hasattr(value, "weights"):
        return [weight.numpy().tobytes() for weight in value.weights]
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    return value if isinstance(value, int | float | str | None) else repr(value)


def batch(house, i):
    ids = house.ids[i][:17]
    return ids[None, :16], ids[None, 1:17]


def build_gpt_model(house, i):
    return mg.build_gpt_model(30, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1, seed=i)


def transformer_block(house, i):
    return mg.transformer_block(8, 2, 8 + i, name="block").count_params()


def positions(house, i):
    return np.asarray(mg.PositionalEncoding(64)(np.full((1, 4 + i % 5, 8), i, "f4")))


def start_from_frequencies(house, i):
    model = build_gpt_model(house, i)
    mg.start_from_frequencies(model, house.ids[i] % 30)
    return model


def tokenizer_from_json(house, i):
    tokenizer = mg.Tokenizer(oov_token="?")
    tokenizer.fit_on_texts(TEXTS[i : i + 3])
    return mg.tokenizer_from_json(tokenizer.to_json()).texts_to_sequences(TEXTS[:9])


def tokenizer(house, i):
    t, text = house.tokenizer, TEXTS[i]
    sequences = t.texts_to_sequences([text, text.split()])
    tables = [t.sequences_to_matrix(sequences, mode) for mode in ("binary", "count", "freq")]
    more = [t.unknown(text), t.split_words(text), t.to_json(), t.get_config(), t.to_bytes()]
    return [sequences, t.sequences_to_texts(sequences), tables, t.words, repr(more)]


def load_tokenizer(house, i):
    file = new(house).with_suffix(".pkl")
    file.write_bytes(mg.train_tokenizer("word", TEXTS[i : i + 2], 60).to_bytes())
    return mg.load_tokenizer(file).word_index


def train_tokenizer(house, i):
    kind = ("word", "char", "bpe")[i % 3]
    return mg.train_tokenizer(kind, TEXTS[i : i + 9], 270).encode(TEXTS[i])


def read_documents(house, i):
    files = []
    for suffix, text in ((".txt", TEXTS[i]), (".csv", f"a,b\n{i},2\n"), (".html", f"<p>{i}</p>")):
        files.append(new(house).with_suffix(suffix))
        files[-1].write_text(text)
    return [*mg.read_documents(files).texts, mg.read_documents(SAMPLE).documents[0].text]


def plan_from_preset(house, i):
    plan = mg.plan_from_preset(SAMPLE, "shakespeare", steps=i + 1, context_length=16)
    return plan.total_steps, plan.corpus.train_ids, plan.windows().batch(i)


def make_plan(house, i):
    plan = tiny_plan(steps=i + 1)
    return plan.total_steps, plan.corpus.train_ids, plan.corpus.tokenizer.words


def planned(plan):
    splits = (plan.dataset.train, plan.dataset.validation)
    return plan.total_steps, [(split.records, split.examples) for split in splits]


def plan_finetuning(house, i):
    return planned(mg.plan_finetuning(house.modern, house.rows, method="full", steps=i + 1))


def make_finetuning_plan(house, i):
    settings = mg.FineTuningConfig("full"), mg.RecordsConfig(val_split=0.2)
    training = mg.fine_tuning_preset("full", steps=i + 1)
    return planned(mg.make_finetuning_plan(house.modern, house.rows, *settings, training))


def train(house, i):
    found = mg.train(tiny_plan(seed=i, steps=2, eval_every=2), new(house))
    return [(seen.step, seen.loss, seen.sample) for seen in found.history], found.out


def finetune(house, i):
    settings = {"method": "lora", "steps": 2, "rank": 2, "batch_size": 2, "seed": i}
    found = mg.finetune(house.modern, house.rows, new(house), **settings)
    return [seen.loss for seen in found.history], found.out


def save_model_folder(house, i):
    return mg.save_model_folder(house.keras, house.tokenizer, new(house))


def export_and_import(house, i):
    out = mg.export_model(house.modern, new(house), "hf").path
    return mg.import_model(out, new(house))


def merge(house, i):
    config = mg.load_folder(house.modern).model
    return mg.merge(house.modern, config, mg.load_adapter(house.adapter, config))


def settings(house, i):
    return mg.model_preset("modern", num_layers=i + 1), mg.fine_tuning_preset("dpo", steps=i + 1)


def listener(house, i):
    heard = Recorder()
    mg.find_copied([house.ids[i]], house.ids[i - 1], 2, heard)
    return heard.work, i


WORK = {
    "Tokenizer": (tokenizer, 300),
    "train_tokenizer": (train_tokenizer, 48),
    "load_tokenizer": (load_tokenizer, 300),
    "tokenizer_from_json": (tokenizer_from_json, 300),
    "Library": (lambda h, i: h.library.find(f"what is to count to {i % 40}?"), 300),
    "read_documents": (read_documents, 100),
    "create_dataset": (lambda h, i: mg.create_dataset(h.ids[i], 8), 300),
    "window_batches": (
        lambda h, i: list(mg.window_batches(h.ids[i], 8, batch_size=3, stride=2, shuffle_seed=i)),
        300,
    ),
    "score": (lambda h, i: mg.score(h.model.engine, h.ids[i], context_length=16, stride=5), 300),
    "score, Keras": (lambda h, i: mg.score(h.keras, h.ids[i], context_length=16), 4),
    "loss_of_batch": (lambda h, i: mg.loss_of_batch(h.model.engine, *batch(h, i)), 300),
    "loss_of_batch, Keras": (lambda h, i: mg.loss_of_batch(h.keras, *batch(h, i)), 16),
    "loss_over": (lambda h, i: mg.loss_over(h.model.engine, [batch(h, i)] * 2), 300),
    "loss_over, Keras": (lambda h, i: mg.loss_over(h.keras, [batch(h, i)] * 2), 4),
    "recall": (
        lambda h, i: mg.recall(h.model.engine, h.ids[i], passages=2, continuation_length=8),
        300,
    ),
    "distinct": (lambda h, i: mg.distinct([h.ids[i].tolist()], 1), 300),
    "loop_rate": (lambda h, i: mg.loop_rate([h.ids[i] % 3]), 300),
    "find_copied": (lambda h, i: mg.find_copied([h.ids[i]], h.ids[i - 7], 2), 300),
    "Listener": (listener, 100),
    "look_inside": (lambda h, i: mg.look_inside(h.model, TEXTS[i]), 300),
    "attention": (lambda h, i: mg.attention(h.model, TEXTS[i]), 100),
    "attention, Keras": (lambda h, i: mg.attention(h.keras, TEXTS[i], h.tokenizer), 8),
    "generate_text": (
        lambda h, i: mg.generate_text(h.keras, h.tokenizer, TEXTS[i], seed=i, max_new_tokens=4),
        8,
    ),
    "build_gpt_model": (build_gpt_model, 8),
    "transformer_block": (transformer_block, 8),
    "PositionalEncoding": (positions, 64),
    "start_from_frequencies": (start_from_frequencies, 8),
    "model_preset": (settings, 100),
    "make_plan": (make_plan, 16),
    "plan_from_preset": (plan_from_preset, 16),
    "plan_finetuning": (plan_finetuning, 8),
    "make_finetuning_plan": (make_finetuning_plan, 8),
    "train": (train, 3),
    "finetune": (finetune, 2),
    "save_model_folder": (save_model_folder, 4),
    "import_model": (export_and_import, 8),
    "merge": (merge, 16),
}
"""What is done by name, and how often."""
SAME = {"save_model_folder", "import_model", "merge"}
"""Work that always gives the same."""
TRAINED = {"train", "finetune"}
"""Where TensorFlow's threads are busy with other runs, it splits a sum into other parts: seen once,
2e-6 of a loss."""
WITHIN = {"load": "save_model_folder", "load_folder": "merge", "load_adapter": "merge"}
WITHIN |= {"export_model": "import_model", "fine_tuning_preset": "model_preset"}
"""Names that other work calls."""
ELSEWHERE = {"Engine", "Classifier", "TextGenerator", "Conversation"}
"""See tests/inference/test_threads.py."""


def flat(found):
    """All values of nested lists."""
    return [v for item in found for v in flat(item)] if isinstance(found, list | tuple) else [found]


@pytest.mark.parametrize("name", WORK)
def test_eight_threads_give_what_one_gives(house, name):
    work, count = WORK[name]
    serial = [plain(work(house, i)) for i in range(count)]
    assert all(found == serial[0] for found in serial) == (name in SAME)
    found = in_threads(lambda i: plain(work(house, i)), range(count))
    if name in TRAINED:
        for one, other in zip(flat(found), flat(serial), strict=True):
            assert one == (pytest.approx(other, rel=1e-5) if isinstance(other, float) else other)
    else:
        assert found == serial


def test_no_public_name_is_left_out():
    def is_plain(thing):
        return isinstance(thing, type) and (
            issubclass(thing, Exception) or dataclasses.is_dataclass(thing)
        )

    tested = {*WORK, *WITHIN, *ELSEWHERE}
    left = {name for name in mg.__all__ if name not in tested and not is_plain(getattr(mg, name))}
    assert left == {"newest_folder"}  # it looks at the dates of files
