"""The ONNX graph in onnxruntime, against the engine."""

import numpy as np
import onnx
import onnxruntime
import pytest

from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.prompt import encode_prompt
from minigpt_tf.interop.export import export_model
from minigpt_tf.text.tokenizers import load_tokenizer
from tests.interop.folders import family_config, make_folder
from tests.interop.test_portable import SHAPES, bpe, check_greedy

COUNT = 32


class Runner:
    """A session that keeps keys and values."""

    def __init__(self, folder, model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self.names = [value.name for value in self.session.get_outputs()]
        self.empty = np.zeros((1, model.num_kv_heads, 0, model.head_dim), dtype=np.float32)
        self.kept = {}

    def logits(self, ids):
        """Logits (T, V) of tokens behind those so far."""
        past = {value.name: self.empty for value in self.session.get_inputs()[1:]} | self.kept
        ids = np.array([ids], dtype=np.int64)
        found = dict(
            zip(self.names, self.session.run(None, {"input_ids": ids, **past}), strict=True)
        )
        logits = found.pop("logits")[0]
        self.kept = {name.replace("present", "past"): value for name, value in found.items()}
        return logits


@pytest.mark.parametrize("name", SHAPES)
def test_every_switch_gives_the_engines_logits(name, tmp_path):
    family, overrides = SHAPES[name]
    folder = make_folder(tmp_path / "model", family_config(family, **overrides), bpe())
    out = export_model(folder.path, tmp_path / "out", "onnx").path
    onnx.checker.check_model(str(out / "model.onnx"), full_check=True)
    ids = encode_prompt(folder.tokenizer, 64, "the cat sat on the mat, and it's 12345").ids
    engine, _ = Engine.load(folder)
    runner = Runner(out, folder.model)
    whole = np.concatenate([runner.logits(ids[:9]), runner.logits(ids[9:])])
    np.testing.assert_allclose(whole, engine.all_logits(ids), atol=2e-4)
    one_by_one = Runner(out, folder.model)
    steps = np.concatenate([one_by_one.logits([i]) for i in ids])
    np.testing.assert_allclose(steps, whole, atol=1e-4)


def test_greedy_tokens_are_the_engines(tmp_path):
    family, overrides = SHAPES["gemma3"]
    tokenizer = bpe()
    tokenizer.end_ids = frozenset()
    folder = make_folder(tmp_path / "model", family_config(family, **overrides), tokenizer)
    out = export_model(folder.path, tmp_path / "out", "onnx").path
    suppressed = tokenizer.suppressed_ids(folder.model.vocab_size)
    prompt = encode_prompt(tokenizer, 64, "the cat").ids
    runner, new = Runner(out, folder.model), []
    logits = runner.logits(prompt)[-1]
    while len(new) < COUNT:
        logits[suppressed] = -np.inf
        new.append(int(logits.argmax()))
        logits = runner.logits(new[-1:])[-1]
    assert check_greedy(folder, prompt, new, COUNT) == COUNT


def test_rows_of_a_batch_are_each_alone(tmp_path):
    folder = make_folder(tmp_path / "model", family_config("llama"), bpe())
    out = export_model(folder.path, tmp_path / "out", "onnx").path
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    rows = np.array([[5, 9, 200], [17, 3, 4]])
    empty = np.zeros((2, folder.model.num_kv_heads, 0, folder.model.head_dim), dtype=np.float32)
    past = {value.name: empty for value in session.get_inputs()[1:]}
    logits = session.run(["logits"], {"input_ids": rows, **past})[0]
    engine, _ = Engine.load(folder)
    for row, found in zip(rows.tolist(), logits, strict=True):
        np.testing.assert_allclose(found, engine.all_logits(row), atol=2e-4)


def test_the_folder_has_the_tokenizer(tmp_path):
    folder = make_folder(tmp_path / "model", family_config("gpt2"), bpe())
    out = export_model(folder.path, tmp_path / "out", "onnx")
    assert sorted(out.files) == ["model.onnx", "model.onnx.data", "tokenizer.json"]
    read = load_tokenizer(out.path / "tokenizer.json")
    assert read.encode("the cat").tolist() == folder.tokenizer.encode("the cat").tolist()
