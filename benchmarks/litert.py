"""A model in LiteRT and LiteRT-LM beside the engine: tokens, loss, speed, memory.

    python benchmarks/litert.py --model models/smollm2 --text FILE

Needs `pip install minigpt_tf[litert] litert-lm-api`. Both runtimes use one thread a core.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

import minigpt_tf as mg
from minigpt_tf.interop.litert.running import LiteRTRunner
from minigpt_tf.machine import usable_cores

PROMPTS = {
    "word": ("who is hardy", "he was", "ramanujan was born", "the university of", "in 1914"),
    "imported": (
        *("The capital of France is", "Once upon a time", "Gravity is"),
        *("def add(a, b):", "My favorite color is"),
    ),
}
"""By the kind of the tokenizer."""
TOKENS, LONG = 32, 200


def resident() -> float:
    """MB of this process's memory, without files that are mapped but not read."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def greedy(runner: LiteRTRunner, ids: list[int], count: int) -> list[int]:
    """The most likely tokens after a prompt."""
    ids = list(ids)
    end = len(ids) + count
    for logits in runner.logits(ids):
        ids.append(int(logits.argmax()))
        if len(ids) == end:
            break
    return ids[end - count :]


def loss(rows: list[list[int]], logits_of) -> float:
    """Mean cross-entropy of the next tokens."""
    losses = []
    for row in rows:
        logits = np.asarray(logits_of(row), dtype=np.float64)
        top = logits.max(axis=-1)
        total = np.log(np.exp(logits - top[:, None]).sum(axis=-1)) + top
        losses.append(total - logits[np.arange(len(logits)), row[1:]])
    return float(np.mean(losses))


def forced(runner: LiteRTRunner, row: list[int]) -> np.ndarray:
    """The logits (T - 1, V) of all next tokens, one decoded after the other."""
    ids, found = row[:1], []
    for logits in runner.logits(ids):
        found.append(logits)
        ids += row[len(found) : len(found) + 1] if len(found) < len(row) - 1 else []
    return np.array(found)


def text_of_lm(file: Path, prompt: str) -> tuple[str, float]:
    """What LiteRT-LM continues, and tokens a second."""
    import litert_lm

    sampler = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
    backend = litert_lm.Backend.CPU(thread_count=usable_cores())
    with (
        litert_lm.Engine(str(file), backend=backend, cache_dir=str(file.parent)) as engine,
        engine.create_session(
            apply_prompt_template=False, sampler_config=sampler, max_output_tokens=TOKENS
        ) as session,
    ):
        session.run_prefill([prompt])
        start = time.perf_counter()
        text = session.run_decode().texts[0]
        return text, TOKENS / (time.perf_counter() - start)


def compare(folder: Path, dtype: str, scratch: Path, rows: list[list[int]]) -> None:
    """Prints a line for each runtime."""
    file = mg.export_model(folder, scratch / f"{dtype}.tflite", "tflite", dtype).path
    print(f"{dtype}: {file.stat().st_size / 1e6:.1f} MB")
    generator = mg.load(folder)
    prompts = PROMPTS[generator.tokenizer.kind]
    runner, same = LiteRTRunner(file, usable_cores()), 0
    for prompt in prompts:
        ids = generator.prepare(prompt).ids
        found = greedy(runner, ids, TOKENS)
        expected: list[int] = []
        logits = generator.engine.prefill(ids)
        while len(expected) < TOKENS:
            expected.append(int(logits.argmax()))
            logits = generator.engine.decode_step(expected[-1])
        same += found == expected
    print(f"  LiteRT: the same {TOKENS} tokens for {same} of {len(prompts)} prompts")
    long = min(LONG, generator.engine.config.context_length - 8)
    greedy(runner, [1, 2], 20)
    before, start = resident(), time.perf_counter()
    greedy(runner, [1, 2], long)
    speed = long / (time.perf_counter() - start)
    grown = resident() - before
    print(f"  LiteRT: {speed:.0f} tokens/s, memory {grown:+.1f} MB after {long} tokens")
    own = loss(rows, lambda row: generator.engine.all_logits(row)[:-1])
    theirs = loss(rows, lambda row: forced(runner, row))
    print(f"  LiteRT: loss {theirs:.4f}, the engine's {own:.4f} ({theirs / own - 1:+.2%})")
    packed = mg.export_model(folder, scratch / f"{dtype}.litertlm", "litert", dtype).path
    same, speeds = 0, []
    for prompt in prompts:
        text, speed = text_of_lm(packed, prompt)
        expected_text = generator.generate(prompt, greedy=True, max_new_tokens=TOKENS).text
        same += text.strip() == expected_text.strip()
        speeds.append(speed)
    median = float(np.median(speeds))
    print(f"  LiteRT-LM: the same text for {same} of {len(prompts)} prompts, {median:.0f} tokens/s")


def main() -> None:
    """Both dtypes of one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="whose loss is measured")
    parser.add_argument("--rows", type=int, default=4)
    arguments = parser.parse_args()
    contents = mg.load_folder(arguments.model)
    length = min(256, contents.model.context_length)
    ids = contents.tokenizer.encode(arguments.text.read_text(encoding="utf-8"))
    rows = [ids[i * length : (i + 1) * length].tolist() for i in range(arguments.rows)]
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in ("f32", "int8"):
            compare(arguments.model, dtype, Path(scratch), rows)


if __name__ == "__main__":
    main()
