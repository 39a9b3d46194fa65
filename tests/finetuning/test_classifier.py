"""Classifiers of tiny models: what is trained, what is saved, and how they are asked."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from minigpt_tf.classification.classifier import Classifier
from minigpt_tf.classification.head import FORMAT, load_head, save_head
from minigpt_tf.config import FineTuningConfig, LoraConfig, RecordsConfig
from minigpt_tf.config.presets import fine_tuning_preset
from minigpt_tf.errors import ConfigError, DataError, ModelFolderError, TrainingError
from minigpt_tf.finetuning.classifier import KERNEL, ClassifierJob
from minigpt_tf.finetuning.preparation import make_finetuning_plan
from minigpt_tf.finetuning.trainer import finetune
from minigpt_tf.inference.adapter import load_adapter, merge
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.weights import read_weights, weight_shapes
from minigpt_tf.interop.export import export_model
from minigpt_tf.model import build_gpt_model
from minigpt_tf.model.adapted import assign_base
from minigpt_tf.storage.model_folder import ADAPTER_NAME, CONFUSION_NAME, HEAD_NAME
from minigpt_tf.text.tokenizers import train_tokenizer
from minigpt_tf.training.step import TrainingStep
from tests.conftest import tiny_config
from tests.interop.folders import family_config, make_folder, random_weight

FRUIT = ["apple", "pear", "plum", "cherry", "grape", "lemon", "melon", "fig"]
TOOLS = ["hammer", "saw", "drill", "pliers", "wrench", "chisel", "file", "level"]
ROWS = [
    {"text": f"{start} {word}{end}", "label": label}
    for label, words in (("fruit", FRUIT), ("tool", TOOLS))
    for word in words
    for start, end in (("this is a", ""), ("look, there is one more", ", I think"))
]
EVERY = ("query", "key", "value", "attention_output", "feed_forward_up", "feed_forward_down")


def write_jsonl(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Bases of three families, and records."""
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = train_tokenizer("bpe", [json.dumps(ROWS)], 300)
    sizes = {"vocab_size": tokenizer.vocab_size, "context_length": 160}
    for family in ("gpt2", "llama"):
        make_folder(folder / family, family_config(family, **sizes), tokenizer)
    # Normalised behind its blocks, with a head of its own and dropout.
    make_folder(folder / "lecture", tiny_config("lecture", **sizes), tokenizer)
    write_jsonl(folder / "rows.jsonl", ROWS)
    return folder


def plan_of(files, layers="last", base="llama", records=None, tuning=None, data=None, **training):
    settings = {"steps": 8, "eval_every": 4, "batch_size": 4, "dtype": "float32", "seed": 3}
    settings |= {"schedule": "constant", "warmup_steps": 0, **training}
    return make_finetuning_plan(
        files / base,
        data or files / "rows.jsonl",
        FineTuningConfig(method="classify", classify_layers=layers, **(tuning or {})),
        RecordsConfig(
            **{"val_split": 0.15, "test_split": 0.15, "length_multiple": 32}, **records or {}
        ),
        fine_tuning_preset("classify", **settings),
        LoraConfig(rank=2, targets=EVERY),
    )


def shaken(job, scale=0.2):
    """The job with other weights than its base's in all that is trained."""
    random = np.random.default_rng(1)
    for variable in job.model.variables:
        variable.assign_add(random.normal(scale=scale, size=variable.shape).astype(np.float32))
    return job


# The model


@pytest.mark.parametrize("base", ["gpt2", "llama", "lecture"])
def test_scores_are_a_linear_layer_on_the_last_real_token(files, base):
    job = shaken(ClassifierJob(plan_of(files, "all", base), files, "float32"))
    x, lengths, labels = job.batch(0)
    config = job.plan.model
    model = build_gpt_model(config)
    with job.merging(job.weights()) as weights:
        assign_base(model, weights)
    behind = "final_norm" if config.has_final_norm else f"block_{config.num_layers - 1}"
    # Each text alone and without padding, through the model that is saved.
    layers = model.layers[1 : [layer.name for layer in model.layers].index(behind) + 1]
    head = load_file_of(job)
    expected = []
    for row, length in zip(x, lengths, strict=True):
        hidden = row[None, :length]
        for layer in layers:
            hidden = layer(hidden)
        expected.append(np.asarray(hidden)[0, -1].astype(np.float64) @ head[0] + head[1])
    expected = np.array(expected)
    assert len(set(lengths.tolist())) > 1 and x.shape[1] > lengths.min()
    found = job.model.scores(*map(tf.constant, (x, lengths)), training=False)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    losses = np.log(np.exp(expected).sum(-1)) - expected[np.arange(4), labels]
    loss, hits = job.model.loss(*map(tf.constant, (x, lengths, labels)), training=False)
    assert float(loss) == pytest.approx(losses.mean(), rel=1e-4)
    assert float(hits) == (expected.argmax(-1) == labels).mean()


def load_file_of(job):
    weights = job.weights()
    return weights[KERNEL], weights["classifier:bias"]


@pytest.mark.parametrize("base", ["gpt2", "llama"])
def test_padding_changes_nothing(files, base):
    job = shaken(ClassifierJob(plan_of(files, "all", base), files, "float32"))
    x, lengths, _ = job.batch(0)
    narrow = x[:, : lengths.max()]
    expected = np.asarray(job.model.scores(narrow, lengths, training=False))
    for width, pad in ((24, 0), (48, 7), (48, 299)):
        wide = np.full((len(x), width), pad, np.int32)
        for place, length in enumerate(lengths):
            wide[place, :length] = x[place, :length]
        found = np.asarray(job.model.scores(wide, lengths, training=False))
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    with_last = x.copy()
    with_last[np.arange(len(x)), lengths - 1] += 1
    assert np.abs(job.model.scores(with_last, lengths, training=False) - expected).min() > 1e-3


@pytest.mark.parametrize("base", ["gpt2", "llama", "lecture"])
@pytest.mark.parametrize("layers", ["last", "lora", "all"])
def test_gradients_reach_what_is_trained_and_nothing_else(files, base, layers):
    job = shaken(ClassifierJob(plan_of(files, layers, base), files, "float32"))
    config, names = job.plan.model, set(job.named_variables())
    weights = set(weight_shapes(config))
    head = {KERNEL, "classifier:bias"}
    if layers == "last":
        norm = {"final_norm/scale", "final_norm/gamma", "final_norm/beta"} & weights
        assert names == head | norm | {n for n in weights if n.startswith("block_1/")}
    elif layers == "all":
        assert names == head | {n for n in weights if not n.startswith("logits/")}
    else:
        assert len(names) == 2 + 2 * 2 * len(EVERY)
    batch = tuple(map(tf.constant, job.batch(0)))
    with tf.GradientTape() as tape:
        loss, _ = job.model.loss(*batch, training=True)
    everything = job.model.keras_model.trainable_variables + job.model.variables
    gradients = tape.gradient(loss, [v.value for v in everything])
    reached = {
        id(v)
        for v, gradient in zip(everything, gradients, strict=True)
        if gradient is not None and np.abs(tf.convert_to_tensor(gradient)).max() > 0
    }
    missing = {n for n, v in job.named_variables().items() if id(v) not in reached}
    assert not {n for n in missing if not n.endswith("key/bias")}  # softmax does not see these
    assert reached <= {id(v) for v in job.model.variables}


def test_the_gradient_is_the_slope_of_the_loss(files):
    job = shaken(ClassifierJob(plan_of(files), files, "float32"))
    batch = tuple(map(tf.constant, job.batch(0)))
    name = "block_1/attention/value/kernel"
    variable = job.named_variables()[name]
    with tf.GradientTape() as tape:
        loss, _ = job.model.loss(*batch, training=True)
    gradient = np.asarray(tape.gradient(loss, variable.value))
    direction = gradient / np.linalg.norm(gradient)
    losses = []
    before = np.array(variable)
    for sign in (1, -1):
        variable.assign(before + sign * 1e-2 * direction)
        losses.append(float(job.model.loss(*batch, training=True)[0]))
    slope = (losses[0] - losses[1]) / 2e-2
    assert slope == pytest.approx(np.linalg.norm(gradient), rel=1e-2)


def test_parts_of_a_batch_make_the_same_step(files):
    weights = []
    for accumulate in (1, 2):
        plan = plan_of(files, accumulate=accumulate, learning_rate=0.01)
        job = ClassifierJob(plan, files, "float32")
        step = TrainingStep(job.model, job.optimizer, clip_norm=1.0, accumulate=accumulate)
        result = step(*job.batch(0), step=0)
        weights.append({**job.weights(), "loss": result.loss, "norm": result.gradient_norm})
    for other in weights[1:]:
        for name, values in weights[0].items():
            np.testing.assert_allclose(other[name], values, atol=2e-5)


def test_bfloat16_has_a_float32_head(files):
    plan = plan_of(files, "all")
    exact = shaken(ClassifierJob(plan, files, "float32"))
    mixed = ClassifierJob(plan, files, "mixed_bfloat16")
    mixed.assign(exact.weights())
    batch = tuple(map(tf.constant, exact.batch(0)[:2]))
    wanted, found = (job.model.scores(*batch, training=False) for job in (exact, mixed))
    assert found.dtype == tf.float32 and mixed.model.kernel.dtype == "float32"
    difference = np.abs(found - wanted).max()
    assert 1e-5 < difference < 0.05 * np.abs(wanted).max()


# Runs


@pytest.fixture(scope="module")
def trained(files):
    """A folder for each choice of layers."""
    for layers in ("last", "lora", "all"):
        plan = plan_of(files, layers, steps=12, eval_every=6, learning_rate=0.02)
        finetune(plan, files / f"out-{layers}")
    return files


@pytest.mark.parametrize("layers", ["last", "lora", "all"])
def test_a_run_writes_a_language_model_and_a_head(trained, layers):
    out = load_folder(trained / f"out-{layers}")
    base = load_folder(trained / "llama")
    tuned, before = (read_weights(f.path / "model.h5", f.model) for f in (out, base))
    changed = {name for name in before if not np.array_equal(before[name], tuned[name])}
    if layers == "last":
        assert changed == {n for n in before if n.startswith(("block_1/", "final_norm/"))}
    elif layers == "lora":
        adapter = load_adapter(out.path / ADAPTER_NAME, out.model)
        assert changed == set(adapter.factors) and len(changed) == 2 * len(EVERY)
        merged = merge(base.path, base.model, adapter)
        assert all(np.array_equal(merged[name], tuned[name]) for name in tuned)
    else:
        assert changed >= {n for n in before if n.endswith("kernel")}
        assert "token_embedding/embeddings" in changed
    assert (out.path / ADAPTER_NAME).exists() == (layers == "lora")
    assert not (out.path / "chat_template.jinja").exists()
    head = load_head(out.path, out.model.embed_dim)
    assert head.labels == ["fruit", "tool"]
    metrics = out.description["metrics"]
    assert {name: part["texts"] for name, part in metrics["parts"].items()} == {
        "training": 22,
        "validation": 5,
        "test": 5,
    }
    history = (out.path / "history.csv").read_text().splitlines()
    assert history[0].endswith("val_accuracy") and len(history) == 3
    samples = (out.path / "samples.txt").read_text()
    assert samples.count("%") == 6 and "fruit" in samples
    assert (out.path / CONFUSION_NAME).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("layers", ["last", "lora", "all"])
def test_the_engine_gives_the_scores_of_keras(trained, layers):
    plan = plan_of(trained, layers)
    job = ClassifierJob(plan, trained, "float32")
    out = trained / f"out-{layers}"
    classifier = Classifier.load(out)
    saved = read_weights(out / "model.h5", plan.model)
    head = load_head(out, plan.model.embed_dim)
    weights = dict(saved) | {KERNEL: head.kernel, "classifier:bias": head.bias}
    if layers == "lora":
        for name, (a, b) in load_adapter(out / ADAPTER_NAME, plan.model).factors.items():
            weights |= {f"{name}:a": a, f"{name}:b": b}
    job.assign(weights)
    for part in (plan.dataset.train, plan.dataset.test):
        scores = job.scores(part)
        for record, example, expected in zip(part.records, part.examples, scores, strict=True):
            np.testing.assert_allclose(
                classifier.scores(example[0]), expected, atol=1e-4, rtol=1e-5
            )
            p = np.exp(expected - expected.max())
            guess = classifier.classify(record.text)
            found = [guess.probabilities[label] for label in ("fruit", "tool")]
            np.testing.assert_allclose(found, p / p.sum(), atol=1e-4)
            assert guess.label == ("fruit", "tool")[expected.argmax()]
    metrics = json.loads((out / "config.json").read_text())["metrics"]
    confusion, loss = job.judge(plan.dataset.test)
    assert metrics["parts"]["test"]["loss"] == pytest.approx(loss, abs=1e-4)
    assert metrics["confusion"] == confusion.as_json()["confusion"]


@pytest.mark.parametrize("preset", ["gpt2", "lecture", "modern"])
def test_hidden_states_make_the_logits(preset):
    config = tiny_config(preset, vocab_size=50, context_length=600)
    weights = {n: random_weight(n, shape) for n, shape in weight_shapes(config).items()}
    engine = Engine(config, weights)
    head = weights.get("logits/kernel", weights["token_embedding/embeddings"].T)
    for length in (1, 5, 60, 300):
        ids = np.random.default_rng(length).integers(0, 50, length)
        logits = engine.hidden(ids) @ head + weights.get("logits/bias", 0)
        np.testing.assert_allclose(logits, engine.prefill(ids), atol=1e-4 * np.abs(logits).max())
    with pytest.raises(ConfigError, match="do not fit into the context"):
        engine.hidden(np.zeros(601, int))
    engine.prefill([1, 2])
    engine.hidden([4, 5, 6])  # leaves the sequence as it is
    expected = Engine(config, weights).prefill([1, 2, 3])
    np.testing.assert_allclose(engine.decode_step(3), expected, atol=1e-4)


def test_a_run_goes_on_with_the_same_bits(files, tmp_path):
    settings = {"steps": 4, "eval_every": 2, "keep": "best", "accumulate": 2}
    whole = finetune(plan_of(files, **settings), tmp_path / "whole")
    finetune(plan_of(files, **{**settings, "steps": 2}), tmp_path / "parts")
    parts = finetune(plan_of(files, **settings), tmp_path / "parts", resume=True)
    config = load_folder(files / "llama").model
    one, two = (read_weights(tmp_path / n / "model.h5", config) for n in ("whole", "parts"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    heads = [load_file(tmp_path / n / HEAD_NAME) for n in ("whole", "parts")]
    assert np.array_equal(heads[0]["kernel"], heads[1]["kernel"]) and np.any(heads[0]["bias"])
    last = [whole.history[-1], parts.history[-1]]
    assert last[0].val_loss == last[1].val_loss and last[0].sample == last[1].sample
    assert last[0].metrics == last[1].metrics and last[0].val_perplexity is None
    other = [{**row, "label": {"fruit": "tool", "tool": "fruit"}[row["label"]]} for row in ROWS]
    write_jsonl(tmp_path / "rows.jsonl", other)
    plan = plan_of(files, data=tmp_path / "rows.jsonl", **settings)
    with pytest.raises(TrainingError, match="rows_fingerprint was"):
        finetune(plan, tmp_path / "parts", resume=True)
    with pytest.raises(TrainingError, match="classify_layers was"):
        finetune(plan_of(files, "all", **settings), tmp_path / "parts", resume=True)


def test_early_stopping_keeps_the_best(files, tmp_path):
    plan = plan_of(
        files, steps=60, eval_every=2, early_stopping=2, learning_rate=0.5, clip_norm=0.0
    )
    result = finetune(plan, tmp_path / "out")
    best = min(result.history, key=lambda e: e.val_loss)
    assert result.stopped_early and result.steps == best.step + 4 and result.kept == "best"
    metrics = load_folder(tmp_path / "out").description["metrics"]
    found = metrics["parts"]["validation"]
    assert found["loss"] == pytest.approx(best.val_loss, rel=1e-5)
    assert found["accuracy"] == best.metrics["val_accuracy"]


def test_a_loss_that_is_no_number_ends_the_run(files, tmp_path):
    plan = plan_of(files, steps=20, eval_every=1, learning_rate=1e30, clip_norm=0.0)
    with pytest.raises(TrainingError, match="learning rate 1e\\+30 is too high"):
        finetune(plan, tmp_path / "out")


def test_a_classifier_is_a_base(trained, tmp_path, capsys):
    plan = plan_of(trained, base="out-last", steps=1)
    assert ("head", "continues from the base's, for 2 labels") in list(plan.report())
    job = ClassifierJob(plan, tmp_path, "float32")
    before = load_head(trained / "out-last", plan.model.embed_dim)
    assert np.array_equal(job.weights()[KERNEL], before.kernel)
    named = [{**row, "label": row["label"].upper()} for row in ROWS]
    other = plan_of(trained, base="out-last", data=write_jsonl(tmp_path / "rows.jsonl", named))
    assert ("head", "a new one, for 2 labels") in list(other.report())
    job = ClassifierJob(other, tmp_path, "float32")
    assert not job.weights()[KERNEL].any() and before.kernel.any()
    assert job.validate()["loss"] == pytest.approx(np.log(2), rel=1e-6)
    answers = [{"instruction": row["text"], "output": row["label"]} for row in ROWS]
    plan = make_finetuning_plan(
        trained / "out-lora",
        write_jsonl(tmp_path / "answers.jsonl", answers),
        FineTuningConfig(method="full"),
        RecordsConfig(),
        fine_tuning_preset("full", steps=1, dtype="float32", sample_tokens=2),
    )
    assert ("head", "the base is a classifier: its head is left out") in list(plan.report())
    out = finetune(
        plan, shutil.copytree(trained / "out-lora", tmp_path / "out"), overwrite=True
    ).out
    left = {file.name for file in out.iterdir()}
    assert not left & {HEAD_NAME, CONFUSION_NAME, ADAPTER_NAME} and "classifier" not in (
        load_folder(out).description
    )
    with pytest.raises(ModelFolderError, match="is not a classifier"):
        Classifier.load(out)


def test_the_base_may_be_without_labels_in_common(files, tmp_path):
    rows = [{"text": f"{word} {i}", "label": word} for word in ("a", "b", "c") for i in range(4)]
    plan = plan_of(files, data=write_jsonl(tmp_path / "rows.jsonl", rows), steps=1)
    job = ClassifierJob(plan, files, "float32")
    assert job.weights()[KERNEL].shape == (32, 3) and job.score(plan.dataset.validation)
    texts = {r.text: r.label for r in plan.dataset.validation.records}
    labels = [texts[query] for query in plan.queries]
    assert len(set(labels)) == len(labels)  # one of each label before a second of any


def test_a_damaged_head_is_refused(trained, tmp_path):
    out = shutil.copytree(trained / "out-last", tmp_path / "out")
    file = out / HEAD_NAME
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"files": {}}))  # else the hash is wrong
    sound = load_file(file)
    kernel, bias = sound["kernel"], sound["bias"]
    labels = {"format": FORMAT, "labels": '["fruit", "tool"]'}
    broken = np.where(np.arange(2) == 1, np.nan, bias).astype(np.float32)
    for tensors, metadata, reason in (
        ({"kernel": kernel.T, "bias": bias}, labels, r"kernel is float32 \(2, 32\)"),
        ({"kernel": kernel[:16], "bias": bias}, labels, r"need float32 \(32, 2\)"),
        ({"kernel": kernel, "bias": bias[:1]}, labels, r"bias is float32 \(1,\)"),
        ({"kernel": kernel, "bias": broken}, labels, "bias holds values that are not finite"),
        ({"kernel": kernel.astype(np.int32), "bias": bias}, labels, "kernel is int32"),
        ({"kernel": kernel}, labels, "bias"),
        ({"kernel": kernel, "bias": bias}, None, "not of this version"),
        ({"kernel": kernel, "bias": bias}, {"format": FORMAT}, "labels"),
        ({"kernel": kernel, "bias": bias}, {**labels, "labels": "[" * 9999}, "damaged"),
        ({"kernel": kernel, "bias": bias}, {**labels, "labels": '["a", "a"]'}, "different names"),
        ({"kernel": kernel, "bias": bias}, {**labels, "labels": "[1, 2]"}, "different names"),
        ({"kernel": kernel, "bias": bias}, {**labels, "labels": '["a","b","c"]'}, "3 labels"),
    ):
        save_file({n: np.ascontiguousarray(t) for n, t in tensors.items()}, file, metadata)
        with pytest.raises(ModelFolderError, match=reason):
            Classifier.load(out)
    for content in (b"", b"\xff" * 64, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "):
        file.write_bytes(content)
        with pytest.raises(ModelFolderError, match="damaged"):
            Classifier.load(out)
    with pytest.raises(ModelFolderError, match="damaged"):
        plan_of(trained, base=out, steps=1)
    save_head(out, kernel, bias, ["fruit", "tool"])
    for section in (None, {}, {"context_length": 999, "cut": "middle"}, {"context_length": "9"}):
        described = json.loads((out / "config.json").read_text()) | {"classifier": section}
        (out / "config.json").write_text(json.dumps(described))
        with pytest.raises(ModelFolderError, match="expected context_length and cut"):
            Classifier.load(out)


def test_records_that_cannot_be_classified(files, tmp_path):
    def rows(*rows):
        return write_jsonl(tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl", rows)

    one = {"text": "a", "label": "x"}
    two = {"text": "b", "label": "y"}
    for data, reason in (
        (rows(), "is empty|contains no records"),
        (rows(one, one), "every record has the label 'x': a classifier needs at least two"),
        (rows(*ROWS, {"instruction": "a", "output": "b"}), "line 33 is a record of the kind"),
        (rows({"instruction": "a", "output": "b"}), "labeled records"),
        (rows({"text": "a"}), "has 'text', where these are needed: text, label"),
        (rows(one, one, one, two), "no record to train on has its label|needs at least two"),
    ):
        with pytest.raises(DataError, match=reason):
            plan_of(files, data=data)
    plan = plan_of(files, data=rows(*ROWS, {"text": " ", "label": "tool"}, {"text": "no label"}))
    reasons = [item.reason for item in plan.dataset.report.dropped]
    assert reasons == ["'text' is empty", "'label' is missing"]
    with pytest.raises(ConfigError, match="sample_queries=''"):
        ClassifierJob(plan_of(files, tuning={"sample_queries": ("",)}), files, "float32")


@pytest.mark.parametrize("cut", ["middle", "start"])
def test_long_texts_are_cut_the_same_way_in_use(files, tmp_path, cut):
    long = [{**row, "text": row["text"] + " " + row["text"] * 4} for row in ROWS]
    data = write_jsonl(tmp_path / "rows.jsonl", long)
    common = {"data": data, "records": {"truncation": cut}, "tuning": {"max_length": 16}}
    plan = plan_of(files, **common, steps=4)
    assert len(plan.dataset.report.truncated) == len(ROWS)
    finetune(plan, tmp_path / "out")
    classifier = Classifier.load(tmp_path / "out")
    assert classifier.context_length == 16
    for record, example in zip(plan.dataset.test.records, plan.dataset.test.examples, strict=True):
        row = classifier.row(record.text)
        assert row.ids.tolist() == example[0].ids.tolist() and len(row.ids) == 16
        whole = plan.template.text_ids(record.text)
        kept = whole[:8] + whole[-8:] if cut == "middle" else whole[-16:]
        assert row.ids.tolist() == kept and row.dropped == len(whole) - 16
        assert classifier.classify(record.text).dropped == row.dropped


def test_an_export_says_what_it_leaves_behind(trained, tmp_path):
    for name, said in (("out-last", True), ("gpt2", False)):
        exported = export_model(trained / name, tmp_path / f"{name}.h5", "h5")
        assert ("classifier.safetensors was not" in (exported.notice or "")) is said
