"""Fine-tuning of tiny models: what is trained, by which gradients, and what is saved."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import minigpt_tf as mg
from minigpt_tf.__main__ import main
from minigpt_tf.config import FineTuningConfig, LoraConfig, RecordsConfig
from minigpt_tf.config.presets import fine_tuning_preset
from minigpt_tf.errors import ConfigError, DataError, ModelFolderError, TrainingError
from minigpt_tf.evaluation.difference import merge_difference
from minigpt_tf.events import Listener
from minigpt_tf.finetuning.models import SupervisedModel, target_weights
from minigpt_tf.finetuning.preference import PreferenceJob, pairs
from minigpt_tf.finetuning.preparation import make_finetuning_plan
from minigpt_tf.finetuning.supervised import SupervisedJob
from minigpt_tf.finetuning.trainer import finetune
from minigpt_tf.inference.adapter import load_adapter, merge
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.weights import read_weights
from minigpt_tf.model import build_gpt_model
from minigpt_tf.model.adapted import assign_base, build_adapted_model
from minigpt_tf.records.alpaca import ALPACA_CHAT_TEMPLATE
from minigpt_tf.records.prompts import Template
from minigpt_tf.records.truncation import Row
from minigpt_tf.storage.model_folder import ADAPTER_NAME, ENGINE_NAMES
from minigpt_tf.text.chat_template import ChatTemplate, message
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.interop.folders import family_config, make_folder

NUMBERS = "one two three four five six seven eight nine ten eleven twelve"
ROWS = [
    {"instruction": f"Say the number {word}", "input": "", "output": f"It is {word}."}
    for word in NUMBERS.split(" ")
]
PAIRS = [
    {"prompt": row["instruction"], "chosen": row["output"], "rejected": "No idea at all."}
    for row in ROWS
]
EVERY = ("query", "key", "value", "attention_output", "feed_forward_up", "feed_forward_down")


def write_jsonl(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Bases of both families, and records."""
    folder = tmp_path_factory.mktemp("finetuning")
    tokenizer = train_tokenizer("bpe", [json.dumps(ROWS) + json.dumps(PAIRS)], 300)
    for family in ("gpt2", "llama"):
        config = family_config(family, vocab_size=tokenizer.vocab_size, context_length=128)
        make_folder(folder / family, config, tokenizer)
    write_jsonl(folder / "rows.jsonl", ROWS)
    write_jsonl(folder / "pairs.jsonl", PAIRS)
    return folder


def plan_of(files, method="lora", family="llama", lora=None, tuning=None, **training):
    settings = {"steps": 6, "eval_every": 3, "batch_size": 4, "dtype": "float32", "seed": 3}
    settings |= {"schedule": "constant", "warmup_steps": 0, "sample_tokens": 4, **training}
    data = "pairs.jsonl" if method == "dpo" else "rows.jsonl"
    return make_finetuning_plan(
        files / family,
        files / data,
        FineTuningConfig(method=method, **(tuning or {})),
        RecordsConfig(val_split=0.25),
        fine_tuning_preset(method, **settings),
        lora or LoraConfig(rank=4, targets=EVERY),
    )


def keras_logits(config, weights, ids):
    model = build_gpt_model(config)
    assign_base(model, weights)
    return np.asarray(model(np.asarray(ids)))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_start_is_the_base(files, family):
    folder = load_folder(files / family)
    weights = read_weights(folder.path / "model.h5", folder.model)
    model, _ = build_adapted_model(folder.model, LoraConfig(targets=EVERY), seed=1)
    assign_base(model, weights)
    ids = np.random.default_rng(0).integers(0, folder.model.vocab_size, (2, 20))
    expected = keras_logits(folder.model, weights, ids)
    np.testing.assert_allclose(np.asarray(model(ids)), expected, atol=1e-5)
    names = [v.path for v in model.trainable_variables]
    assert len(names) == 2 * len(EVERY) * 2 and all("lora" in name for name in names)


def test_changes_are_as_peft_has_them(files, tmp_path):
    # Of Llama: GPT-2's query, key and value are one matrix to peft.
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from minigpt_tf.interop.export import export_model

    folder = load_folder(files / "llama")
    export_model(folder.path, tmp_path / "hf", "hf", "f32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "attention_output": "o_proj"}
    names |= {"feed_forward_up": "up_proj", "feed_forward_down": "down_proj"}
    settings = peft.LoraConfig(r=4, lora_alpha=12, target_modules=list(names.values()))
    theirs = peft.get_peft_model(theirs, settings)
    plan = plan_of(files, lora=LoraConfig(rank=4, alpha=12.0, targets=EVERY))
    weights = read_weights(folder.path / "model.h5", folder.model)
    ours = SupervisedModel(folder.model, weights, plan.training, "float32", plan.lora)
    random = np.random.default_rng(5)
    for variable in ours.variables:
        variable.assign(random.normal(scale=0.1, size=variable.shape).astype(np.float32))
    parameters = dict(theirs.named_parameters())
    places = {}
    for name in {n.rpartition(":")[0] for n in ours.named_variables()}:
        block, *_, layer = name.removesuffix("/kernel").split("/")
        part = "mlp" if layer.startswith("feed") else "self_attn"
        path = f"base_model.model.model.layers.{block[6:]}.{part}.{names[layer]}"
        for factor, letter in (("a", "A"), ("b", "B")):
            parameter = parameters[f"{path}.lora_{letter}.default.weight"]
            value = np.array(ours.named_variables()[f"{name}:{factor}"]).T
            parameter.data = torch.from_numpy(value.copy())
            places[f"{name}:{factor}"] = parameter
    ids = random.integers(0, folder.model.vocab_size, (2, 17))
    x, y = ids[:, :-1].astype(np.int32), ids[:, 1:].astype(np.int32)
    expected = theirs(torch.from_numpy(ids[:, :-1])).logits
    found = np.asarray(ours.keras_model(x))
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-4)
    loss = torch.nn.functional.cross_entropy(
        expected.reshape(-1, expected.shape[-1]), torch.from_numpy(ids[:, 1:].reshape(-1))
    )
    loss.backward()
    with tf.GradientTape() as tape:
        mine, _ = ours.loss(
            *map(tf.constant, (x, y, target_weights(np.ones(x.shape), 1))), training=True
        )
    named = ours.named_variables()
    gradients = tape.gradient(mine, [v.value for v in named.values()])
    assert float(mine) == pytest.approx(float(loss), rel=1e-5)
    for name, gradient in zip(named, gradients, strict=True):
        wanted = places[name].grad.numpy().T
        np.testing.assert_allclose(gradient, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_only_targets_that_count_are_in_the_loss(files):
    plan = plan_of(files, "full")
    folder = plan.base
    weights = read_weights(folder.path / "model.h5", folder.model)
    model = SupervisedModel(folder.model, weights, plan.training, "float32")
    x, y, mask = plan.batches(plan.dataset.train).batch(0)
    logits = keras_logits(folder.model, weights, x).astype(np.float64)
    losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, y[..., None], -1)[..., 0]
    expected = (losses * mask).sum() / mask.sum()
    assert 0 < mask.sum() < mask.size / 2
    loss, hits = model.loss(*map(tf.constant, (x, y, target_weights(mask, 1))), training=False)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(hits) == pytest.approx(
        ((logits.argmax(-1) == y) * mask).sum() / mask.sum(), abs=1e-6
    )
    halves = [slice(0, 2), slice(2, 4)]
    parts = [
        model.loss(*map(tf.constant, (x[h], y[h], target_weights(mask, 2)[h])), training=False)
        for h in halves
    ]
    assert np.mean([float(part[0]) for part in parts]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bits", ["8", "4"])
def test_a_quantised_base_is_near_the_base(files, bits):
    plan = plan_of(files, "qlora", tuning={"base_bits": bits})
    job = SupervisedJob(plan, files, "float32")
    weights = read_weights(plan.base.path / "model.h5", plan.model)
    ids = np.random.default_rng(0).integers(0, plan.model.vocab_size, (2, 20))
    expected = keras_logits(plan.model, weights, ids)
    found = np.asarray(job.model.keras_model(ids))
    spread = np.abs(found - expected).mean() / expected.std()
    assert 0 < spread < (0.01 if bits == "8" else 0.2)
    kinds = {v.dtype for v in job.model.keras_model.weights}
    assert "int8" in kinds and len(job.model.variables) == 2 * len(EVERY) * 2


def test_dpo_s_loss_and_gradients_by_hand(files):
    plan = plan_of(files, "dpo", tuning={"beta": 0.3})
    job = PreferenceJob(plan, files, "float32")
    *batch, reference = job.batch(0)
    loss, accuracy = job.model.loss(*map(tf.constant, (*batch, reference)), training=False)
    assert float(loss) == pytest.approx(np.log(2), abs=1e-5)
    assert 0 <= float(accuracy) <= 1
    random = np.random.default_rng(1)
    for variable in job.model.variables:
        variable.assign(random.normal(scale=0.2, size=variable.shape).astype(np.float32))

    def brute_force():
        x, y, mask = (tf.constant(array) for array in batch)
        total = 0.0
        for pair in range(x.shape[0]):
            rewards = []
            for answer in (0, 1):
                logits = job.model.keras_model(x[pair, answer][None])[0]
                chosen = tf.gather(tf.nn.log_softmax(logits), y[pair, answer], batch_dims=1)
                found = tf.reduce_sum(chosen * mask[pair, answer])
                rewards.append(0.3 * (found - reference[pair, answer]))
            total -= tf.math.log_sigmoid(rewards[0] - rewards[1])
        return total / x.shape[0]

    variables = [v.value for v in job.model.variables]
    with tf.GradientTape() as tape:
        expected = brute_force()
    wanted = tape.gradient(expected, variables)
    with tf.GradientTape() as tape:
        found, _ = job.model.loss(*map(tf.constant, (*batch, reference)), training=True)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    for mine, theirs in zip(tape.gradient(found, variables), wanted, strict=True):
        scale = max(1.0, float(tf.reduce_max(tf.abs(theirs))))
        np.testing.assert_allclose(mine, theirs, atol=1e-5 * scale)


def test_dpo_starts_at_ln_2_against_the_base_itself(files, tmp_path):
    plan = plan_of(files, "dpo")
    job = PreferenceJob(plan, files, "float32")
    base = read_weights(plan.base.path / "model.h5", plan.model)
    parts = (plan.dataset.train, plan.dataset.validation)
    for part, references in zip(parts, job.references[:2], strict=True):
        assert len(references) == len(part.examples) > 0
        for example, reference in zip(part.examples, references, strict=True):
            for row, found in zip(example, reference, strict=True):
                logits = keras_logits(plan.model, base, row.ids[None, :-1])[0].astype(np.float64)
                losses = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1))
                chosen = np.take_along_axis(logits, row.ids[1:, None], -1)[:, 0] - logits.max(-1)
                assert found == pytest.approx(((chosen - losses) * row.mask[1:]).sum(), rel=1e-4)
    before = [array.copy() for array in job.references]
    losses = [
        float(job.model.loss(*map(tf.constant, job.batch(step)), training=False)[0])
        for step in range(2)
    ]
    assert losses == pytest.approx([np.log(2)] * 2, abs=1e-6)
    assert job.validate()["loss"] == pytest.approx(np.log(2), abs=1e-6)
    for variable in job.model.variables:
        variable.assign_add(np.full(variable.shape, 0.1, np.float32))
    assert job.validate()["loss"] != pytest.approx(np.log(2), abs=1e-3)
    assert all(np.array_equal(a, b) for a, b in zip(before, job.references, strict=True))


def test_pairs_without_room_for_an_answer_are_dropped_and_counted(files, tmp_path):
    long = {"prompt": "Say it", "chosen": "It is five. " * 100, "rejected": "No."}
    write_jsonl(tmp_path / "pairs.jsonl", [*PAIRS, long, {**long, "chosen": "No."}])
    plan = make_finetuning_plan(
        files / "llama",
        tmp_path / "pairs.jsonl",
        FineTuningConfig(method="dpo"),
        RecordsConfig(),
        fine_tuning_preset("dpo"),
    )
    said = "\n".join(plan.dataset.report.lines())
    assert "14 lines read" in said and "dropped: 2 lines" in said
    assert "1: its answer alone does not fit into the context of 128 tokens (line 13)" in said
    assert "1: 'chosen' and 'rejected' are the same (line 14)" in said
    assert len(plan.dataset.train.examples) + len(plan.dataset.validation.examples) == len(PAIRS)


def test_a_merged_model_is_as_far_as_its_base_was_quantised(files, tmp_path):
    found = {}
    for method, bits in (("lora", "8"), ("qlora", "8"), ("qlora", "4")):
        tuning = {"base_bits": bits} if method == "qlora" else None
        out, heard = tmp_path / (method + bits), []
        listener = Listener()
        listener.notice = heard.append
        finetune(plan_of(files, method, tuning=tuning, steps=2), out, listener=listener)
        merge = load_folder(out).description["metrics"]["merge"]
        assert (
            f"{merge['merged_loss']:.4f}, before merging {merge['trained_loss']:.4f}" in heard[-1]
        )
        assert "merged into the full-precision base: on 3 records" in heard[-1]
        found[method + bits] = merge["largest_logit_difference"], merge["mean_logit_difference"]
    assert found["lora8"][0] < 1e-3
    assert 1e-3 < found["qlora8"][1] < found["qlora4"][1] < 5
    assert found["qlora8"][1] < found["qlora8"][0]


def test_a_run_prints_only_if_asked_to(files, tmp_path, capfd):
    finetune(plan_of(files), tmp_path / "silent")
    assert capfd.readouterr().out == ""
    history = finetune(plan_of(files), tmp_path / "shown", verbose=True).history
    printed = capfd.readouterr().out
    assert printed.startswith("note: ") and " parameters are trained, " in printed.splitlines()[0]
    for evaluation in history:
        assert f"  loss {evaluation.loss:.4f}  accuracy {evaluation.accuracy:.1%}" in printed
        assert f"\n    {evaluation.sample!r}\n" in printed


def test_distances_of_logits_by_hand():
    class Engine:
        def all_logits(self, ids):
            return np.array([[0.0, 0.0], [np.log(3), 0.0], [5.0, 5.0]])

    row = Row(np.array([0, 1, 0, 1]), np.array([False, True, True, False]))
    found = merge_difference(lambda ids: np.zeros((1, 3, 2)), Engine(), [row])
    assert found["records"] == 1
    assert found["largest_logit_difference"] == pytest.approx(np.log(3))
    assert found["mean_logit_difference"] == pytest.approx(np.log(3) / 4)
    assert found["trained_loss"] == pytest.approx(np.log(2))
    assert found["merged_loss"] == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)


def test_pairs_stay_together():
    rows = np.arange(12).reshape(6, 2)  # three chosen, three rejected
    (together,) = pairs((rows,))
    assert together.tolist() == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]


@pytest.mark.parametrize("method", ["full", "lora", "qlora", "dpo"])
def test_a_run_learns_and_its_folder_is_a_model(files, method, tmp_path):
    plan = plan_of(files, method, steps=12, eval_every=6, learning_rate=0.01)
    result = finetune(plan, tmp_path / "out")
    losses = [evaluation.loss for evaluation in result.history]
    assert losses[-1] < losses[0] and len(result.history) == 2
    assert result.history[0].loss_per == ("pair" if method == "dpo" else "token")
    folder = load_folder(tmp_path / "out")
    assert folder.tokenizer.end_ids == plan.template.stop_ids
    assert folder.description["finetuning"]["tuning"]["method"] == method
    tuned = read_weights(folder.path / "model.h5", folder.model)
    base = read_weights(plan.base.path / "model.h5", plan.model)
    changed = {name for name in base if not np.array_equal(base[name], tuned[name])}
    if method == "full":
        assert changed == set(base) and not (folder.path / ADAPTER_NAME).exists()
        return
    adapter = load_adapter(folder.path / ADAPTER_NAME, folder.model)
    assert changed == set(adapter.factors) and len(changed) == 2 * len(EVERY)
    merged = merge(plan.base.path, plan.model, adapter)
    assert all(np.array_equal(merged[name], tuned[name]) for name in tuned)
    with pytest.raises(ModelFolderError, match="not the base that the adapter was trained on"):
        merge(files / "gpt2", plan.model, adapter)


def test_weights_that_the_engine_keeps_beside_a_model_stay_with_that_model(files, tmp_path):
    copy, out = shutil.copytree(files, tmp_path / "files"), tmp_path / "out"
    for name in ENGINE_NAMES:
        (copy / "llama" / name).write_bytes(b"of the base")
    settings = {"steps": 1, "eval_every": 1}
    finetune(plan_of(copy, **settings), out)
    assert not [*out.glob("model.*.h5")]
    for name in ENGINE_NAMES:
        (out / name).write_bytes(b"of the model before")
    finetune(plan_of(copy, **settings), out, overwrite=True)
    assert not [*out.glob("model.*.h5")]


def test_the_merged_model_is_the_unmerged_one(files, tmp_path):
    plan = plan_of(files, steps=4, learning_rate=0.05)
    job = SupervisedJob(plan, files, "float32")
    random = np.random.default_rng(2)
    for variable in job.model.variables:
        variable.assign(random.normal(scale=0.3, size=variable.shape).astype(np.float32))
    ids = random.integers(0, plan.model.vocab_size, (2, 20))
    unmerged = np.asarray(job.model.keras_model(ids))
    with job.merging(job.weights()) as weights:
        merged = keras_logits(plan.model, weights, ids)
    np.testing.assert_allclose(merged, unmerged, atol=1e-4 * np.abs(unmerged).max())


@pytest.mark.parametrize("method", ["lora", "dpo"])
def test_a_run_goes_on_with_the_same_bits(files, method, tmp_path):
    whole = finetune(plan_of(files, method), tmp_path / "whole")
    finetune(plan_of(files, method, steps=3), tmp_path / "parts")
    parts = finetune(plan_of(files, method), tmp_path / "parts", resume=True)
    config = load_folder(files / "llama").model
    first, second = (
        load_adapter(tmp_path / name / ADAPTER_NAME, config).factors for name in ("whole", "parts")
    )
    assert all(
        np.array_equal(a, b) for n in first for a, b in zip(first[n], second[n], strict=True)
    )
    assert [e.loss for e in whole.history] == [e.loss for e in parts.history]
    before = [
        load_folder(tmp_path / name).description["metrics"]["before"] for name in ("whole", "parts")
    ]
    assert before[0] == before[1] and before[0]["loss"] > 0
    with pytest.raises(TrainingError, match="rank was 4, now 2"):
        other = plan_of(files, method, lora=LoraConfig(rank=2, targets=EVERY))
        finetune(other, tmp_path / "parts", resume=True)


def test_the_saved_template_is_the_one_of_training(files):
    folder = load_folder(files / "llama")
    template, written = Template.of(folder), ChatTemplate(ALPACA_CHAT_TEMPLATE)
    talks = [
        [message("user", "Say one")],
        [message("user", "Say one"), message("assistant", "one"), message("user", "and two")],
        [message("system", "Be short."), message("user", "Say one")],
    ]
    for messages in talks:
        ids = [i for i in template.prompt_ids(messages).tolist() if i not in template.stop_ids]
        text = written.render(messages, add_generation_prompt=True)
        assert folder.tokenizer.decode(ids) == text


def test_a_model_trained_with_alpaca_s_inputs_is_asked_with_them(files, tmp_path):
    rows = [{"instruction": "Add one", "input": str(i), "output": str(i + 1)} for i in range(8)]
    words = ["--base", str(files / "llama"), "--out", str(tmp_path / "out"), "--steps", "1"]
    words += ["--data", str(write_jsonl(tmp_path / "inputs.jsonl", rows)), "--dtype", "float32"]
    assert main(["finetune", *words, "--sample-tokens", "2"]) == 0
    asked = [
        Template.of(load_folder(folder)).render_prompt("Add one", "3").tolist()
        for folder in (files / "llama", tmp_path / "out")
    ]
    assert asked[0] == asked[1]
    plan = plan_of(files)
    assert [plan.template.prompt_ids(q).tolist() for q in plan.questions] == [
        plan.template.render_prompt(q).tolist() for q in plan.queries
    ]


def test_a_run_goes_on_from_another_place(files, tmp_path, monkeypatch):
    finetune(plan_of(files, steps=1), tmp_path / "out")
    monkeypatch.chdir(files)
    moved = plan_of(files.relative_to(files), steps=2, tuning={"sample_queries": ("who?",)})
    assert finetune(moved, tmp_path / "out", resume=True).steps == 2
    run = (tmp_path / "out" / "checkpoint" / "run.json").read_text()
    with pytest.raises(TrainingError, match="has done 2 steps already"):
        finetune(plan_of(files, steps=1), tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "checkpoint" / "run.json").read_text() == run


def test_the_command(files, tmp_path, capsys):
    words = ["finetune", "--base", str(files / "llama"), "--data", str(files / "rows.jsonl")]
    run = ["--steps", "2", "--batch-size", "2", "--dtype", "float32", "--sample-tokens", "3"]
    out = str(tmp_path / "tuned")
    assert main([*words, *run, "--out", out, "--rank", "2", "--targets", "query"]) == 0
    said = capsys.readouterr().out
    assert "[[It is " in said and "256 parameters are trained" in said
    assert "before training, on the validation set: loss" in said and f"chat --model {out}" in said
    assert main(["generate", "Say one", "--chat", "--model", out, "--greedy"]) == 0
    for more, reason in (
        (["--out", out], "exists: --overwrite"),
        (["--out", "x", "--method", "full", "--rank", "2"], "--rank is for --method lora or"),
        (["--out", "x", "--beta", "0.2"], "--beta is for --method dpo"),
        (["--out", "x", "--targets", "nothing"], "targets=nothing"),
        (["--out", "x", "--method", "dpo"], "instruction"),
    ):
        assert main([*words, *run, *more]) == 2
        assert reason in capsys.readouterr().err
    assert main(["finetune", "--data", "a"]) == 2 and "--base is missing" in capsys.readouterr().err


def test_fine_tuning_by_names_is_the_run_of_a_plan(files, tmp_path):
    settings = {"steps": 2, "batch_size": 4, "dtype": "float32", "seed": 3, "sample_tokens": 4}
    places = (files / "llama", files / "rows.jsonl")
    found = mg.finetune(
        *places,
        tmp_path / "names",
        method="lora",
        rank=4,
        targets=list(EVERY),
        val_split=0.25,
        **settings,
    )
    plan = make_finetuning_plan(
        *places,
        FineTuningConfig(method="lora"),
        RecordsConfig(val_split=0.25),
        fine_tuning_preset("lora", **settings),
        LoraConfig(rank=4, targets=EVERY),
    )
    assert mg.finetune(plan, tmp_path / "plan").steps == found.steps == 2
    assert found.out == tmp_path / "names"
    config = load_folder(files / "llama").model
    named, planned = (
        load_adapter(tmp_path / folder / ADAPTER_NAME, config) for folder in ("names", "plan")
    )
    assert named.rank == planned.rank == 4 and named.factors.keys() == planned.factors.keys()
    for name, pair in planned.factors.items():
        assert all(np.array_equal(*both) for both in zip(pair, named.factors[name], strict=True))
    more = mg.finetune(
        *places,
        tmp_path / "names",
        resume=True,
        method="lora",
        rank=4,
        targets=list(EVERY),
        val_split=0.25,
        **settings | {"steps": 3},
    )
    assert more.steps == 3


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"learning_rat": 1e-3}, "^learning_rat: unknown setting: did you mean learning_rate?"),
        ({"sample_prompt": "he"}, "^sample_prompt: is for training on a text"),
        ({"method": "full", "rank": 4}, "^--rank is for --method lora or qlora or dpo or"),
        ({"epochs": 2, "steps": 9}, "^epochs and steps exclude each other"),
        ({"method": "magic"}, "^method='magic': choose one of full, lora"),
        ({"targets": "nothing"}, "^targets=nothing: choose of query"),
        ({"optimizer": "muon"}, "^--optimizer muon is for whole matrices"),
    ],
)
def test_settings_that_do_not_fit_are_refused(files, tmp_path, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        mg.finetune(files / "llama", files / "rows.jsonl", tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_places_are_checked_before_the_base_is_read(files, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("x")
    with pytest.raises(ModelFolderError, match="choose another --out"):
        mg.finetune(tmp_path / "nothing", tmp_path / "none.jsonl", tmp_path / "taken")
    with pytest.raises(ModelFolderError, match="is the base itself"):
        mg.finetune(files / "llama", files / "rows.jsonl", files / "llama")
    with pytest.raises(ConfigError, match="a base, a file of records, and the folder to write"):
        mg.finetune(files / "llama", files / "rows.jsonl")
    for more in ({"out": tmp_path / "b"}, {"epochs": 2}):
        with pytest.raises(ConfigError, match="a plan has all settings"):
            mg.finetune(plan_of(files), tmp_path / "a", **more)


def test_a_damaged_adapter_is_named(files, tmp_path):
    config = load_folder(files / "llama").model
    (tmp_path / "a").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ModelFolderError, match="not an adapter"):
        load_adapter(tmp_path / "a", config)
    with pytest.raises(ModelFolderError, match="no such adapter"):
        load_adapter(tmp_path / "b", config)


def test_preferences_are_no_instructions(files):
    with pytest.raises(DataError, match="prompt, chosen"):
        make_finetuning_plan(
            files / "llama",
            files / "rows.jsonl",
            FineTuningConfig(method="dpo"),
            RecordsConfig(),
            fine_tuning_preset("dpo"),
        )
