"""What a run takes, against what processes took."""

from dataclasses import replace

import pytest

from minigpt_tf.config import FineTuningConfig, LoraConfig, TrainingConfig
from minigpt_tf.config.presets import fine_tuning_preset, model_preset, training_preset
from minigpt_tf.finetuning.methods import method_of
from minigpt_tf.planning.bases import BASES
from minigpt_tf.planning.memory import memory_of
from minigpt_tf.planning.workload import text_workload

SMOLLM2 = BASES["SmolLM2-135M"]

MODERN = model_preset(
    "modern",
    vocab_size=8192,
    context_length=1024,
    embed_dim=512,
    num_layers=8,
    num_heads=8,
    num_kv_heads=4,
    ff_dim=1408,
)
SHORT = replace(SMOLLM2, context_length=1024)

TRAINED = [  # model, batch, settings, ru_maxrss of a whole run in MiB
    (model_preset("lecture", context_length=64), 32, {"dtype": "float32"}, 1663),
    (model_preset("lecture", context_length=128), 64, {"dtype": "float32"}, 3206),
    (
        model_preset("lecture", context_length=128),
        64,
        {"dtype": "mixed_bfloat16", "remat": True},
        1730,
    ),
    (MODERN, 2, {"dtype": "mixed_bfloat16"}, 2475),
    (replace(MODERN, context_length=512), 8, {"dtype": "float32"}, 3608),
    (
        replace(MODERN, context_length=256),
        16,
        {"dtype": "float32", "optimizer": "muon"},
        3747,
    ),
    (model_preset("gpt2", context_length=256), 2, {"dtype": "float32"}, 5722),
    (model_preset("gpt2", context_length=512), 2, {"dtype": "mixed_bfloat16"}, 6511),
    (model_preset("gpt2", context_length=128), 4, {"dtype": "float32", "accumulate": 2}, 6080),
    (replace(SMOLLM2, context_length=128), 4, {"dtype": "mixed_bfloat16"}, 6081),
    (model_preset("shakespeare"), 256, {"dtype": "mixed_bfloat16"}, 1377),
]

TUNED = [  # method, bits, model, batch, tokens, those that count, dtype, ru_maxrss in MiB
    ("full", "8", MODERN, 8, 256, 106, "float32", 2575),
    ("lora", "8", MODERN, 2, 992, 490, "float32", 2418),
    ("qlora", "8", MODERN, 8, 256, 106, "float32", 1849),
    ("classify", "8", MODERN, 4, 960, 0, "float32", 1574),
    ("full", "8", SHORT, 2, 256, 106, "mixed_bfloat16", 5968),
    ("lora", "8", SHORT, 8, 128, 42, "mixed_bfloat16", 3356),
    ("lora", "8", SHORT, 4, 256, 106, "float32", 4082),
    ("qlora", "8", SHORT, 4, 256, 106, "float32", 3858),
    ("dpo", "8", SHORT, 2, 256, 106, "float32", 3950),
    ("classify", "8", SHORT, 8, 96, 0, "mixed_bfloat16", 2810),
]
"""Some of the runs on which the formula was fitted: AMD Zen 5, two cores, TensorFlow 2.21."""


@pytest.mark.parametrize("model, batch, settings, mebibytes", TRAINED)
def test_training_takes_what_was_measured(model, batch, settings, mebibytes):
    training = TrainingConfig(batch_size=batch, **settings)
    found = memory_of(text_workload(model, training)).total
    assert found / 2**20 == pytest.approx(mebibytes, rel=0.1)


def run_of(method, model=SMOLLM2, bits="8", length=128, targets=78, **training):
    settings = {"batch_size": 8, "dtype": "float32", **training}
    return method_of(FineTuningConfig(method=method, base_bits=bits)).workload(
        model,
        LoraConfig(),
        fine_tuning_preset(method, **settings),
        length=length,
        targets=targets,
    )


@pytest.mark.parametrize("method, bits, model, batch, length, targets, dtype, mebibytes", TUNED)
def test_tuning_takes_what_was_measured(
    method, bits, model, batch, length, targets, dtype, mebibytes
):
    run = run_of(method, model, bits, length, targets, batch_size=batch, dtype=dtype)
    assert memory_of(run).total / 2**20 == pytest.approx(mebibytes, rel=0.12)


def test_methods_need_less_in_their_order():
    needs = [
        memory_of(run_of(method, bits=bits)).total
        for method, bits in (("full", "8"), ("lora", "8"), ("qlora", "8"), ("qlora", "4"))
    ]
    assert needs == sorted(needs, reverse=True) and len(set(needs)) == 4
    pairs = memory_of(run_of("dpo", targets=10))  # two rows each
    assert pairs == memory_of(run_of("lora", batch_size=16, targets=10))


def test_auto_is_what_the_processor_has(monkeypatch):
    from minigpt_tf.planning import workload

    training = training_preset("gpt2", dtype="auto")
    for fast, size in ((True, 2), (False, 4)):
        monkeypatch.setattr(workload, "has_fast_bfloat16", lambda fast=fast: fast)
        run = text_workload(model_preset("gpt2"), training)
        assert run.product_bytes == size
        dtype = {2: "mixed_bfloat16", 4: "float32"}[size]
        named = text_workload(model_preset("gpt2"), replace(training, dtype=dtype))
        assert memory_of(run) == memory_of(named)
