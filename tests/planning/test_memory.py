"""What a run takes, against what processes took."""

from dataclasses import replace

import pytest

from minigpt_tf.config import FineTuningConfig, LoraConfig, ModelConfig
from minigpt_tf.config.presets import fine_tuning_preset, model_preset, training_preset
from minigpt_tf.finetuning.methods import method_of
from minigpt_tf.planning.memory import memory_of
from minigpt_tf.planning.workload import text_workload

SMOLLM2 = ModelConfig(
    vocab_size=49152,
    context_length=8192,
    embed_dim=576,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    ff_dim=1536,
    dropout=0.0,
    positions="rotary",
    norm="rms",
    norm_placement="before",
    activation="swiglu",
    use_bias=False,
    qkv_bias=False,
    logits_bias=False,
    tie_embeddings=True,
)
"""SmolLM2-135M's sizes."""

WIDE = model_preset(
    "modern",
    vocab_size=8000,
    context_length=1024,
    embed_dim=1024,
    num_layers=6,
    num_heads=16,
    num_kv_heads=16,
    ff_dim=4096,
)

TRAINED = [  # preset, its switches, batch, remat, dtype, ru_maxrss of a process in MB
    ("lecture", {"head_dim": 32}, 64, False, "mixed_bfloat16", 1456),
    ("lecture", {"head_dim": 32}, 256, False, "mixed_bfloat16", 2665),
    ("lecture", {"head_dim": 32}, 256, False, "float32", 3536),
    ("lecture", {"head_dim": 32}, 256, True, "mixed_bfloat16", 1582),
    ("shakespeare", {}, 512, False, "mixed_bfloat16", 1899),
    ("gpt2", {"context_length": 256}, 8, False, "mixed_bfloat16", 5054),
    ("gpt2", {"context_length": 256}, 2, False, "mixed_bfloat16", 3674),
]

TUNED = [  # method, bits, model, batch, tokens, those that count, peak of a whole run in MB
    ("lora", "8", SMOLLM2, 2, 128, 61, 3360),
    ("qlora", "8", SMOLLM2, 2, 128, 61, 3081),
    ("qlora", "4", SMOLLM2, 2, 128, 61, 3199),
    ("full", "8", WIDE, 4, 256, 218, 5025),
    ("lora", "8", WIDE, 4, 256, 218, 2634),
    ("qlora", "8", WIDE, 4, 256, 218, 2329),
]


def run_of(method, model=SMOLLM2, bits="8", length=128, targets=78, **training):
    settings = {"batch_size": 8, "dtype": "float32", **training}
    return method_of(FineTuningConfig(method=method, base_bits=bits)).workload(
        model,
        LoraConfig(),
        fine_tuning_preset(method, **settings),
        length=length,
        targets=targets,
    )


@pytest.mark.parametrize("method, bits, model, batch, length, targets, megabytes", TUNED)
def test_tuning_takes_what_was_measured(method, bits, model, batch, length, targets, megabytes):
    run = run_of(method, model, bits, length, targets, batch_size=batch)
    assert memory_of(run).total / 2**20 == pytest.approx(megabytes, rel=0.3)


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
