"""int4 weights against brute force, textbook GPTQ and the engine."""

import itertools

import numpy as np
import pytest

from minigpt_tf.config.presets import PRESETS
from minigpt_tf.errors import ConfigError
from minigpt_tf.inference import quantization
from minigpt_tf.inference.blocks import BLOCK, Blocks
from minigpt_tf.inference.calibration import generated_passages, passages_of
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.quantization import (
    DAMPENING,
    Int4Matrix,
    bfloat16,
    quantize_model,
    quantize_to_int4,
)
from minigpt_tf.inference.stages import Passages, Stage, kernel_of, rows_of, stage_kernels
from minigpt_tf.inference.weights import weight_shapes
from tests.conftest import Recorder, tiny_config
from tests.switches import SWITCHES as NEWER


def random_weights(config, seed=0):
    """Weights by name, norms near 1; no TensorFlow."""
    random, weights = np.random.default_rng(seed), {}
    for name, shape in weight_shapes(config).items():
        scale = 1 if name.endswith(("/gamma", "/scale")) else 0
        weights[name] = (scale + 0.3 * random.standard_normal(shape)).astype(np.float32)
    return weights


def ids_for(config, count=6, length=12, seed=0):
    return np.random.default_rng(seed).integers(0, config.vocab_size, (count, length))


# ---------------------------------------------------------------- inputs of the matrices


SWITCHES = {
    "separate head": {"tie_embeddings": False, "logits_bias": True},
    "biases": {"use_bias": True, "qkv_bias": True},
    "only qkv biases": {"use_bias": False, "qkv_bias": True},
    "grouped heads": {"num_heads": 4, "num_kv_heads": 2},
    "wide heads": {"head_dim": 12},
    "post-norm": {"norm_first": False},
    "rms": {"norm": "rms"},
    "rotary": {"positions": "rotary"},
    "stretched": {"positions": "rotary", "rope_scaling": {"factor": 2.0}},
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal"},
    "swiglu": {"activation": "swiglu"},
    "relu": {"activation": "relu"},
    "gelu": {"activation": "gelu"},
    "gelu_tanh": {"activation": "gelu_tanh"},
}


SWITCHES |= {name: switch for name, switch in NEWER.items() if "logits_softcap" not in switch}


@pytest.mark.parametrize(
    "preset,switches",
    [*itertools.product(PRESETS, [""]), *itertools.product(["modern"], SWITCHES)],
)
def test_passages_end_where_the_engine_does(preset, switches):
    sizes = {"vocab_size": 30, "context_length": 24}
    config = tiny_config(preset, **{**sizes, **SWITCHES.get(switches, {})})
    weights, ids = random_weights(config), ids_for(config, count=9, length=20)
    passages = Passages(config, weights, ids)
    for layer, stage in itertools.product(range(config.num_layers), Stage):
        for name in stage_kernels(config, layer, stage):
            assert passages.inputs.shape == (ids.size, rows_of(weights[name], name).shape[1])
        passages.advance(layer, stage)
    head = "token_embedding/embeddings" if config.tie_embeddings else "logits/kernel"
    logits = passages.inputs @ rows_of(weights[head], head).T + weights.get("logits/bias", 0)
    engine = Engine(config, weights)
    for passage, found in zip(ids, logits.reshape(*ids.shape, -1), strict=True):
        np.testing.assert_allclose(found, engine.all_logits(passage), atol=1e-4)


def test_second_moments_are_means_over_all_tokens():
    config = tiny_config("modern", vocab_size=30, context_length=16)
    passages = Passages(config, random_weights(config), ids_for(config))
    expected = np.mean([np.outer(x, x) for x in passages.inputs], axis=0)
    np.testing.assert_allclose(passages.second_moments(), expected, rtol=1e-5, atol=1e-6)


def test_rows_and_kernels_are_each_other_s_inverse():
    config = tiny_config("modern", vocab_size=30, context_length=16)
    for name, weight in random_weights(config).items():
        if name.endswith(("/kernel", "/embeddings")):
            assert np.array_equal(kernel_of(rows_of(weight, name), weight.shape, name), weight)


def test_passages_of_a_text_do_not_overlap():
    found = passages_of(np.arange(103), count=5, length=10, seed=1)
    assert found.shape == (5, 10) and len(np.unique(found)) == 50
    assert np.array_equal(found, passages_of(np.arange(103), count=5, length=10, seed=1))
    assert passages_of(np.arange(7), count=5, length=10).tolist() == [list(range(7))]


@pytest.mark.parametrize("preset,context", [("modern", 8), ("modern", 30), ("gpt2", 30)])
def test_a_model_writes_its_own_passages(preset, context):
    config = tiny_config(preset, vocab_size=7, context_length=context)
    weights, recorder = random_weights(config), Recorder()
    engine = Engine(config, weights)
    first = generated_passages(engine, 400, 20, seed=3, listener=recorder)
    again = generated_passages(engine, 400, 20, seed=3)
    length = min(20, context)
    assert first.shape == (400, length) and np.array_equal(first, again)
    assert recorder.work[-1][1:] == (length - 1, length)
    # The second token is drawn from the softmax behind the first.
    token = np.bincount(first[:, 0]).argmax()
    after = first[first[:, 0] == token, 1]
    logits = engine.all_logits([token])[0].astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    spread = np.sqrt(probabilities * (1 - probabilities) / len(after))
    frequencies = np.bincount(after, minlength=7) / len(after)
    assert (np.abs(frequencies - probabilities) < 4 * spread + 0.01).all()


# ---------------------------------------------------------------- one matrix


def moments_of(inputs):
    return (inputs.T @ inputs / len(inputs)).astype(np.float32)


def correlated(inputs, seed=0, tokens=400):
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((inputs, inputs)) * random.uniform(0.1, 2, inputs)
    return (random.standard_normal((tokens, inputs)) @ mixing).astype(np.float32)


def plain_rounding(rows):
    """Nearest of 16 steps from the smallest to the largest weight of each group."""
    result = np.empty_like(rows)
    for first in range(0, rows.shape[1], BLOCK):
        group = rows[:, first : first + BLOCK]
        low = group.min(axis=1, keepdims=True)
        scale = (group.max(axis=1, keepdims=True) - low) / 15
        scale[scale == 0] = 1
        result[:, first : first + BLOCK] = np.rint((group - low) / scale) * scale + low
    return result


def output_error(rows, rounded, inputs):
    return np.square(inputs @ (rows - rounded).T).sum()


def textbook_gptq(rows, moments, scales, minimums):
    """Algorithm 1 of Frantar et al. with an inverse that shrinks by a column each step, one group,
    the order of the diagonal, and the scales given."""
    order = np.argsort(-np.diag(moments), kind="stable")
    hessian = moments[np.ix_(order, order)].astype(np.float64)
    hessian += DAMPENING * np.diag(hessian).mean() * np.eye(len(hessian))
    work, codes = rows[:, order].astype(np.float64), np.zeros(rows.shape, dtype=np.uint8)
    for j in range(len(order)):
        inverse = np.linalg.inv(hessian[j:, j:])
        code = np.clip(np.rint((work[:, j] - minimums[:, 0]) / scales[:, 0]), 0, 15)
        error = (work[:, j] - (scales[:, 0] * code + minimums[:, 0])) / inverse[0, 0]
        work[:, j:] -= np.outer(error, inverse[0])
        codes[:, order[j]] = code
    return codes


@pytest.mark.parametrize("inputs", [1, 2, 5, 17, 32])
def test_codes_are_those_of_textbook_gptq(inputs, monkeypatch):
    monkeypatch.setattr(quantization, "SWEEPS", 0)
    rows = np.random.default_rng(inputs).standard_normal((40, inputs)).astype(np.float32)
    moments = moments_of(correlated(inputs))
    found = quantize_to_int4(rows, moments)
    expected = textbook_gptq(rows, moments, found.scales, found.minimums)
    assert (found.codes == expected).mean() > 0.999  # a tie may fall otherwise in float64


@pytest.mark.parametrize("outputs,inputs", [(1, 1), (3, 31), (7, 32), (5, 33), (16, 64), (9, 100)])
def test_outputs_are_nearer_than_with_plain_rounding(outputs, inputs):
    rows = np.random.default_rng(1).standard_normal((outputs, inputs)).astype(np.float32)
    x = correlated(inputs)
    found = quantize_to_int4(rows, moments_of(x))
    groups = -(-inputs // BLOCK)
    assert found.codes.shape == rows.shape and found.codes.dtype == np.uint8
    assert found.codes.max() <= 15 and (found.scales > 0).all()
    assert found.scales.shape == found.minimums.shape == (outputs, groups)
    assert np.array_equal(bfloat16(found.scales), found.scales)
    assert np.array_equal(bfloat16(found.minimums), found.minimums)
    error = output_error(rows, found.dequantized(), x)
    assert error <= output_error(rows, plain_rounding(rows), x) + 1e-3
    if inputs >= 32:
        assert error < 0.6 * output_error(rows, plain_rounding(rows), x)


def test_a_compensated_pair_is_as_good_as_any_codes():
    """Two inputs, all 256 pairs of codes: with the same d and m, none is much better."""
    rows = np.random.default_rng(5).standard_normal((60, 2)).astype(np.float32)
    x = correlated(2, seed=4)
    moments = moments_of(x).astype(np.float64)
    found = quantize_to_int4(rows, moments.astype(np.float32))
    pairs = np.array(list(itertools.product(range(16), repeat=2)))
    for row, codes, scale, minimum in zip(
        rows, found.codes, found.scales, found.minimums, strict=True
    ):
        errors = row - (scale * pairs + minimum)
        costs = np.einsum("pi,ij,pj->p", errors, moments, errors)
        ours = costs[16 * int(codes[0]) + int(codes[1])]
        plain = np.clip(np.rint((row - minimum) / scale), 0, 15).astype(int)
        assert costs.min() <= ours <= max(costs[16 * plain[0] + plain[1]], 4 * costs.min()) + 1e-6


def test_sweeps_only_lower_the_error(monkeypatch):
    rows = np.random.default_rng(8).standard_normal((30, 90)).astype(np.float32)
    moments = moments_of(correlated(90))
    dampened = moments + DAMPENING * np.diag(moments).mean() * np.eye(90)
    costs = []
    for sweeps in (0, 1, 2, 6):
        monkeypatch.setattr(quantization, "SWEEPS", sweeps)
        errors = rows - quantize_to_int4(rows, moments).dequantized()
        costs.append(np.einsum("ri,ij,rj->r", errors, dampened, errors))
    for before, after in itertools.pairwise(costs):
        assert (after <= before * (1 + 1e-4)).all()
    assert costs[2].sum() < 0.97 * costs[0].sum()


def on_a_grid(outputs, inputs, seed=0):
    """A matrix of bfloat16 scales and minimums; each group has the codes 0 and 15."""
    random = np.random.default_rng(seed)
    groups = -(-inputs // BLOCK)
    scales = bfloat16(random.uniform(1e-3, 1, (outputs, groups)))
    minimums = bfloat16(random.uniform(-8, 1, (outputs, groups)))
    codes = random.integers(0, 16, (outputs, inputs)).astype(np.uint8)
    codes[:, ::BLOCK], codes[:, 1::BLOCK] = 0, 15
    return Int4Matrix(codes, scales, minimums)


@pytest.mark.parametrize("inputs", [32, 64, 90])
def test_weights_on_a_grid_are_found_again(inputs):
    grid = on_a_grid(50, inputs)
    found = quantize_to_int4(grid.dequantized(), moments_of(correlated(inputs)))
    assert np.array_equal(found.codes, grid.codes)
    assert np.array_equal(found.scales, grid.scales)
    assert np.array_equal(found.minimums, grid.minimums)


def test_the_same_matrix_gives_the_same_codes():
    rows = np.random.default_rng(2).standard_normal((20, 70)).astype(np.float32)
    moments = moments_of(correlated(70))
    first, again = (quantize_to_int4(rows, moments) for _ in range(2))
    for name in ("codes", "scales", "minimums"):
        assert np.array_equal(getattr(first, name), getattr(again, name))


def test_rows_of_one_value_stay_so():
    rows = np.zeros((3, 40), dtype=np.float32)
    rows[1], rows[2] = 0.75, -3
    found = quantize_to_int4(rows, moments_of(correlated(40))).dequantized()
    assert np.array_equal(found, rows)


def test_inputs_that_are_never_used_do_no_harm():
    rows = np.random.default_rng(3).standard_normal((10, 64)).astype(np.float32)
    x = correlated(64)
    x[:, [0, 5, 40]] = 0
    found = quantize_to_int4(rows, moments_of(x)).dequantized()
    assert output_error(rows, found, x) < 0.6 * output_error(rows, plain_rounding(rows), x)
    assert np.abs(found - rows)[:, [0, 5, 40]].max() < 0.5  # a group spans about 4
    silent = quantize_to_int4(rows, np.zeros((64, 64), dtype=np.float32)).dequantized()
    assert np.abs(silent - rows).max() < 0.3


def test_moments_that_are_not_positive_are_dampened_until_they_are():
    rows = np.random.default_rng(3).standard_normal((10, 32)).astype(np.float32)
    moments = moments_of(correlated(32))
    values, vectors = np.linalg.eigh(moments)
    values[0] = -0.2 * values.mean()
    damaged = ((vectors * values) @ vectors.T).astype(np.float32)
    found = quantize_to_int4(rows, damaged).dequantized()
    assert np.isfinite(found).all() and np.abs(found - rows).max() < 3


@pytest.mark.parametrize("size", [2.0**-90, 2.0**-20, 2.0**20, 2.0**60])
def test_the_size_of_the_weights_does_not_matter(size):
    rows = np.random.default_rng(6).standard_normal((10, 64)).astype(np.float32)
    moments = moments_of(correlated(64))
    found, scaled = (quantize_to_int4(rows * np.float32(f), moments) for f in (1, size))
    assert np.array_equal(scaled.codes, found.codes)
    assert np.array_equal(scaled.dequantized(), found.dequantized() * np.float32(size))


def test_bfloat16_rounds_to_even():
    values = np.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-7, 0])
    expected = np.float32([1, 1, 1 + 2**-6, 1 + 2**-7, -1 - 2**-7, 0])
    assert np.array_equal(bfloat16(values), expected)


# ---------------------------------------------------------------- a model


def dequantize(quantized, config):
    """The float32 weights that a quantized model stands for."""
    result = {}
    for name, shape in weight_shapes(config).items():
        weight = quantized[name]
        if isinstance(weight, np.ndarray):
            result[name] = weight
        else:
            rows = weight.values() if isinstance(weight, Blocks) else weight.dequantized()
            result[name] = kernel_of(rows, shape, name)
    return result


@pytest.mark.parametrize("preset", PRESETS)
def test_a_quantized_model_is_nearer_than_one_of_rounded_weights(preset):
    config = tiny_config(
        preset, vocab_size=50, context_length=16, embed_dim=48, ff_dim=80, num_layers=3
    )
    weights, recorder = random_weights(config), Recorder()
    quantized = quantize_model(weights, config, ids_for(config, 100, 16), recorder)
    assert list(quantized) == list(weight_shapes(config))
    assert recorder.work[0] == ("quantizing", 0, 3) and recorder.work[-1] == ("quantizing", 3, 3)
    kinds = {name: type(weight) for name, weight in quantized.items()}
    assert kinds["token_embedding/embeddings"] is Blocks
    assert kinds.get("logits/kernel", Blocks) is Blocks
    assert kinds["block_2/attention/attention_output/kernel"] is Int4Matrix
    restored, rounded = dequantize(quantized, config), dict(weights)
    for name, weight in weights.items():
        assert restored[name].shape == weight.shape and restored[name].dtype == np.float32
        if kinds[name] is np.ndarray:
            assert np.array_equal(restored[name], weight)
        elif kinds[name] is Blocks:
            rounded[name] = restored[name]
        else:
            rounded[name] = kernel_of(plain_rounding(rows_of(weight, name)), weight.shape, name)
    unseen = ids_for(config, 20, 16, seed=9)

    def distance(changed):
        engines = Engine(config, weights), Engine(config, changed)
        return np.mean(
            [np.square(engines[0].all_logits(p) - engines[1].all_logits(p)).mean() for p in unseen]
        )

    assert distance(restored) < 0.9 * distance(rounded)


def test_a_quantized_model_is_the_same_each_time():
    config = tiny_config("modern", vocab_size=30, context_length=16)
    weights, ids = random_weights(config), ids_for(config)
    before = {name: weight.copy() for name, weight in weights.items()}
    first, again = (quantize_model(weights, config, ids) for _ in range(2))
    restored = dequantize(first, config)
    for name, weight in dequantize(again, config).items():
        assert np.array_equal(weight, restored[name])
        assert np.array_equal(weights[name], before[name])


@pytest.mark.parametrize(
    "passages,message",
    [
        (np.zeros(5, dtype=int), r"expected ids \(P, T\)"),
        (np.zeros((0, 4), dtype=int), r"expected ids \(P, T\)"),
        (np.zeros((2, 4)), r"expected ids \(P, T\)"),
        (np.zeros((2, 17), dtype=int), "do not fit into the context of 16"),
        (np.full((2, 4), 30), "token id 30 is outside the vocabulary of 30"),
    ],
)
def test_passages_that_do_not_fit_are_refused(passages, message):
    config = tiny_config("modern", vocab_size=30, context_length=16)
    with pytest.raises(ConfigError, match=message):
        quantize_model(random_weights(config), config, passages)


def test_a_model_that_overflows_is_refused():
    config = tiny_config("modern", vocab_size=30, context_length=16)
    weights = random_weights(config)
    weights["block_0/feed_forward_up/kernel"][:] = 1e30
    with np.errstate(all="ignore"), pytest.raises(ConfigError, match="not finite"):
        quantize_model(weights, config, ids_for(config))
