"""What int8 weights cost in quality: the change of perplexity, and of greedy tokens.

    python train.py --data tinyshakespeare.txt --preset shakespeare --out models/shakespeare
    python benchmarks/quantization.py --model models/shakespeare --data tinyshakespeare.txt

Scores every token of the validation part once, in windows of the context, with float32 and with
int8 weights. Prints both perplexities and their change; the share of positions at which both put
the same token first; and, for greedy continuations by 40 tokens of 50 random 8-token passages, the
share of tokens before the first that differs.
"""

import argparse
from pathlib import Path

import numpy as np

from minigpt_tf.config import DataConfig, EngineConfig, SamplingConfig
from minigpt_tf.config.settings import from_dict
from minigpt_tf.files.documents import read_documents
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.prompt import Prompt
from minigpt_tf.metrics import negative_log_likelihood
from minigpt_tf.text.corpus import build_corpus
from minigpt_tf.text.windows import scoring_batches

PASSAGES, PREFIX, CONTINUATION = 50, 8, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the text it was trained on")
    parser.add_argument("--most-tokens", type=int, default=20000, help="tokens scored at most")
    arguments = parser.parse_args()
    contents = load_folder(arguments.model)
    settings = contents.description["data"]
    fields = {name: settings[name] for name in DataConfig.__dataclass_fields__ if name in settings}
    config = from_dict(DataConfig, fields, str(arguments.model))
    corpus = build_corpus(
        read_documents(arguments.data, config.encoding), contents.tokenizer, config
    )
    exact, rounded = (
        TextGenerator.load(arguments.model, EngineConfig(quantize=q)) for q in ("none", "int8")
    )
    ids = corpus.val_ids[: arguments.most_tokens]
    (loss, first), (loss8, first8) = (score(g.engine, ids) for g in (exact, rounded))
    print(f"{arguments.model}: {len(ids) - 1:,} validation tokens")
    print(f"perplexity float32  {np.exp(loss):.4f}")
    print(f"perplexity int8     {np.exp(loss8):.4f}  ({np.exp(loss8 - loss) - 1:+.3%})")
    print(f"same token first    {np.mean(first == first8):.2%} of positions")
    print(f"greedy agreement    {agreement(exact, rounded, corpus.train_ids):.2%} of tokens")


def score(engine: Engine, ids: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss in nats, and the likeliest token after each position."""
    losses, first = [], []
    for x, y in scoring_batches(ids, engine.config.context_length, 1):
        logits = engine.all_logits(x[0])
        first.append(logits.argmax(axis=-1))
        losses.append(negative_log_likelihood(logits, y[0]))  # which changes the logits
    return float(np.concatenate(losses).mean()), np.concatenate(first)


def agreement(exact: TextGenerator, rounded: TextGenerator, ids: np.ndarray) -> float:
    """Share of greedy tokens before the first on which the two differ."""
    greedy = SamplingConfig(greedy=True, max_new_tokens=CONTINUATION)
    starts = np.random.default_rng(0).integers(0, len(ids) - PREFIX, PASSAGES)
    prompts = [Prompt("", ids[s : s + PREFIX].tolist(), [], 0) for s in starts]
    pairs = zip(*(g.generate_batch(prompts, greedy) for g in (exact, rounded)), strict=True)
    same = [np.cumprod(np.equal(a.ids, b.ids)).sum() for a, b in pairs]
    return float(np.mean(same)) / CONTINUATION


if __name__ == "__main__":
    main()
