"""The real Gemma 3 270M, where its file is: transformers' logits, greedy tokens and loss on it.

MINIGPT_GEMMA names gemma-3-270m-q4_k_m.gguf; its makers' terms forbid that it comes with the tests.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from minigpt_tf import import_model
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder

FILE, ASSETS = os.environ.get("MINIGPT_GEMMA"), os.environ.get("MINIGPT_ASSETS")


@pytest.mark.skipif(not (FILE and ASSETS), reason="MINIGPT_GEMMA or MINIGPT_ASSETS is not set")
def test_gemma_3_computes_what_transformers_does(tmp_path):
    golden = json.loads((Path(ASSETS) / "gemma3-270m-golden.json").read_text())["float32"]
    folder = load_folder(import_model(FILE, tmp_path / "gemma", context_length=1024))
    engine, _ = Engine.load(folder)
    for case in golden["cases"]:
        prompt = folder.tokenizer.encode(case["prompt"]).tolist()
        assert [*folder.tokenizer.prefix_ids, *prompt] == case["ids"]
        logits, tokens = engine.prefill(case["ids"]), []
        np.testing.assert_allclose(logits[case["top5_ids"]], case["top5_logits"], atol=1e-4)
        while len(tokens) < len(case["greedy_ids"]):
            tokens.append(int(logits.argmax()))
            logits = engine.decode_step(tokens[-1])
        assert tokens == case["greedy_ids"]
    text = (Path(ASSETS) / "the-verdict.txt").read_text(encoding="utf-8")
    ids = np.array([*folder.tokenizer.prefix_ids, *folder.tokenizer.encode(text)])[:1024]
    losses = []
    for logits in engine.logits_in_chunks(ids[:-1]):
        targets = ids[len(losses) + 1 :][: len(logits)]
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        of_targets = shifted[np.arange(len(logits)), targets]
        losses += (np.log(np.exp(shifted).sum(axis=1)) - of_targets).tolist()
    assert abs(np.mean(losses) - golden["the_verdict_mean_loss_1024"]) < 1e-4
