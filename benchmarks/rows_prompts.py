"""The row of long prompts."""

from peers import OTHERS
from results import Results, each, middle, ratio, shown
from rows import Figure, Files, Row
from shapes import SHAPES, SMOLLM2
from tasks import PROMPT_TOKENS

from minigpt_tf.config import ModelConfig


def prompts_row(files: Files, shape: str) -> Row:
    """A prompt of 1,000 tokens."""
    product = "NumPy, a product"
    jobs = {
        product: {"peer": OTHERS, "task": "numpy_product"},
        "engine float32": files.engine("prompts", shape, "F32"),
        "llama.cpp f32": files.llama_cpp("prompts", shape, "F32"),
        "engine int8": files.engine("prompts", shape, "F32", "int8"),
    }
    if shape == SMOLLM2:
        jobs |= {
            "llama.cpp q8_0": files.llama_cpp("prompts", shape, "Q8_0"),
            "engine bfloat16": files.engine("prompts", shape, "BF16"),
            "llama.cpp bf16": files.llama_cpp("prompts", shape, "BF16"),
        }
    needed = operations(SHAPES[shape])

    def report(results: Results) -> list[str]:
        lines = [
            f"{'':<24}{'seconds':>9}{'GFLOPS':>9}{'of NumPy':>10}{'ratio':>8}  to llama.cpp f32"
        ]
        peak = each(results, product, "rate")
        for label in jobs:
            times = each(results, label, "seconds")
            rates = [None if t is None else needed / t for t in times]
            rates = peak if label == product else rates
            rate = middle(rates)
            line = f"{label:<24}{shown(middle(times), 9)}{shown(rate and rate / 1e9, 9, 0)}"
            line += f"{shown(ratio(rates, peak), 10)}"
            rival = each(results, "llama.cpp f32", "seconds")
            lines.append(line + shown(ratio(rival, times), 8))
        for label in ("engine float32", "engine int8"):
            short = next(iter(results.get(label, [])), {}).get("short", {})
            times = {n: middle(each(results, label, "short", n)) for n in short}
            texts = [f"{n}: {shown(t and 1000 * t, 0, 1)}" for n, t in times.items()]
            lines.append(f"{label}, ms of short prompts by tokens: " + "  ".join(texts))
        return lines

    def figures(results: Results) -> list[Figure]:
        ours, theirs = (
            each(results, "engine float32", "seconds"),
            each(results, "llama.cpp f32", "seconds"),
        )
        return [("engine float32 to llama.cpp f32", ratio(theirs, ours), ">= 1.3")]

    return Row(f"{shape} prompts, {PROMPT_TOKENS:,} tokens", jobs, report, figures)


def operations(config: ModelConfig) -> int:
    """Floating-point operations of the long prompt: two for each weight and token but for the
    output head, which sees the last token only, and four for each pair of positions that attention
    looks at."""
    T, D, H = PROMPT_TOKENS, config.embed_dim, config.head_dim
    heads = config.num_heads + 2 * config.num_kv_heads
    feed_forward = 3 if config.activation == "swiglu" else 2
    block = D * heads * H + config.num_heads * H * D + feed_forward * D * config.ff_dim
    pairs = T * (T + 1) // 2
    attention = 4 * pairs * config.num_heads * H
    return config.num_layers * (2 * T * block + attention) + 2 * config.vocab_size * D
