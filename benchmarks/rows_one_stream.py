"""The rows of one stream: float32, exact storage, int8 and int4."""

from collections.abc import Callable, Mapping

from peers import Job
from results import Results, each, middle, ratio, same_bits, same_tokens, shown
from rows import F32_OF_BF16, READ, STREAMING, Figure, Files, Row
from shapes import SMOLLM2


def one_stream_row(
    title: str,
    jobs: dict[str, Job],
    rivals: Mapping[str, str],
    figures: Callable[[Results], list[Figure]],
    exact: bool = False,
) -> Row:
    """A row of peers that decode one stream.

    Args:
        title: Of the table.
        jobs: By label.
        rivals: With which each is compared.
        figures: Of the results.
        exact: Whether the first two are the engine, which should have the same bits.
    """
    labels = [label for label in jobs if label != STREAMING]

    def report(results: Results) -> list[str]:
        columns = f"{'tokens/s':>9}{'min':>7}{'max':>7}{'of read':>9}{'weights MB':>12}"
        lines = [f"{'':<24}{columns}{'process MB':>12}{'9 at once':>11}{'ratio':>7}  to"]
        bandwidth = each(results, STREAMING, "bandwidth")
        for label in labels:
            speeds = each(results, label, "speed")
            known = [speed for speed in speeds if speed is not None]
            first = next(iter(results.get(label, [])), {})
            reads = [None if s is None else s * first["bytes"] for s in speeds]
            extremes = [min(known), max(known)] if known else [None, None]
            line = f"{label:<24}{shown(middle(speeds), 9, 1)}"
            line += "".join(shown(number, 7, 1) for number in extremes)
            line += shown(ratio(reads, bandwidth), 9)
            for key, width in (("memory", 12), ("process", 12)):
                value = middle(each(results, label, key))
                line += shown(None if value is None else value / 1e6, width, 0)
            line += shown(middle(each(results, label, "nine")), 11)
            rival = rivals.get(label, "")
            line += shown(ratio(speeds, each(results, rival, "speed")), 7) + f"  {rival}"
            lines.append(line.rstrip())
        read = middle(bandwidth)
        lines.append(f"streaming read: {shown(read and read / 1e9, 0, 1)} GB/s")
        same = {label: same_tokens(results, label, labels[0]) for label in labels[1:]}
        texts = [f"{label}: the first {n}" for label, n in same.items() if n is not None]
        lines.append(f"tokens as {labels[0]}: " + ("; ".join(texts) or "-"))
        if exact:
            bits = {True: "equal", False: "DIFFERENT", None: "-"}
            bits_of = bits[same_bits(results, labels[1], labels[0])]
            lines.append(f"bits of the logits of {labels[1]} and {labels[0]}: {bits_of}")
        return lines

    return Row(title, jobs, report, figures)


def speed_ratio(results: Results, label: str, rival: str) -> float | None:
    """How many times as fast."""
    return ratio(each(results, label, "speed"), each(results, rival, "speed"))


def of_read(results: Results, label: str) -> float | None:
    """The fraction of the streaming read bandwidth."""
    reads = [
        result["speed"] * result["bytes"] if "speed" in result else None
        for result in results.get(label, [])
    ]
    return ratio(reads, each(results, STREAMING, "bandwidth"))


def float32_row(files: Files, shape: str) -> Row:
    """Float32, and what others do with it."""
    jobs = {
        STREAMING: READ,
        "engine float32": files.engine("decode", shape, "F32"),
        "llama.cpp f32": files.llama_cpp("decode", shape, "F32"),
        "transformers f32": files.other("transformers_decode", shape, dtype="float32"),
        "transformers bf16": files.other("transformers_decode", shape, dtype="bfloat16"),
        "NumPy, products only": files.other("numpy_decode", shape),
    }
    rival = "llama.cpp f32"

    def figures(results: Results) -> list[Figure]:
        ours = "engine float32"
        return [
            ("engine to llama.cpp f32", speed_ratio(results, ours, rival), ">= 1.1, at least 0.98"),
            ("engine, of the streaming read", of_read(results, ours), ">= 0.85"),
            ("9 tokens in one pass, to one", middle(each(results, ours, "nine")), "<= 1.9"),
        ]

    rivals = {label: rival for label in jobs if label not in (STREAMING, rival)}
    return one_stream_row(f"{shape} float32, one stream", jobs, rivals, figures)


def bfloat16_row(files: Files, shape: str) -> Row | None:
    """Weights born in bfloat16: stored exactly."""
    if shape != SMOLLM2:
        return None
    wide, ours = "engine float32", "engine bfloat16"
    jobs = {
        STREAMING: READ,
        wide: files.engine("decode", shape, "BF16", "float32"),
        ours: files.engine("decode", shape, "BF16"),
        "llama.cpp f32": files.llama_cpp("decode", shape, F32_OF_BF16),
        "llama.cpp bf16": files.llama_cpp("decode", shape, "BF16"),
    }

    def figures(results: Results) -> list[Figure]:
        return [
            ("engine to its float32", speed_ratio(results, ours, wide), ">= 1.8"),
            ("engine to llama.cpp f32", speed_ratio(results, ours, "llama.cpp f32"), ""),
            ("engine to llama.cpp bf16", speed_ratio(results, ours, "llama.cpp bf16"), ""),
            ("memory to float32's", memory_ratio(results, ours, wide), "<= 0.55"),
            ("same bits (1: yes)", as_number(same_bits(results, ours, wide)), "1"),
        ]

    rivals = {ours: wide, "llama.cpp bf16": "llama.cpp f32"}
    return one_stream_row(f"{shape} exact bfloat16, one stream", jobs, rivals, figures, exact=True)


def q4_1_row(files: Files, shape: str) -> Row | None:
    """Weights of a Q4_1 file: stored exactly."""
    if shape != SMOLLM2:
        return None
    wide, ours, theirs = "engine float32", "engine Q4_1", "llama.cpp q4_1"
    jobs = {
        STREAMING: READ,
        wide: files.engine("decode", shape, "Q4_1", "float32"),
        ours: files.engine("decode", shape, "Q4_1"),
        theirs: files.llama_cpp("decode", shape, "Q4_1"),
    }

    def figures(results: Results) -> list[Figure]:
        return [
            ("engine to its float32", speed_ratio(results, ours, wide), ">= 2.5"),
            ("engine to llama.cpp q4_1", speed_ratio(results, ours, theirs), ""),
            ("memory to float32's", memory_ratio(results, ours, wide), "<= 0.25"),
            ("same bits (1: yes)", as_number(same_bits(results, ours, wide)), "1"),
        ]

    of_file = f" of {files.real.name}" if files.real else ""
    title = f"{shape} exact Q4_1{of_file}, one stream"
    return one_stream_row(title, jobs, {ours: wide}, figures, exact=True)


def int8_row(files: Files, shape: str) -> Row:
    """Weights rounded to 8 bits."""
    ours, theirs = "engine int8", "llama.cpp q8_0"
    jobs = {
        STREAMING: READ,
        ours: files.engine("decode", shape, "F32", "int8"),
        theirs: files.llama_cpp("decode", shape, "Q8_0"),
    }

    def figures(results: Results) -> list[Figure]:
        return [("engine to llama.cpp q8_0", speed_ratio(results, ours, theirs), ">= 1.3")]

    return one_stream_row(f"{shape} int8, one stream", jobs, {ours: theirs}, figures)


def int4_row(files: Files, shape: str) -> Row | None:
    """Weights in 4 bits. For speed it is the same how they were chosen; perplexity is another
    matter (`minigpt evaluate --quantize int4`)."""
    if shape != SMOLLM2:
        return None
    ours, theirs = "engine int4", "llama.cpp q4_0"
    jobs = {
        STREAMING: READ,
        ours: files.engine("decode", shape, "Q4_0", "int4"),
        theirs: files.llama_cpp("decode", shape, "Q4_0"),
    }

    def figures(results: Results) -> list[Figure]:
        return [("engine to llama.cpp q4_0", speed_ratio(results, ours, theirs), ">= 1.2")]

    return one_stream_row(f"{shape} int4, one stream", jobs, {ours: theirs}, figures)


def memory_ratio(results: Results, label: str, rival: str) -> float | None:
    """Bytes of weights in memory."""
    return ratio(each(results, label, "memory"), each(results, rival, "memory"))


def as_number(same: bool | None) -> float | None:
    """For the table of figures."""
    return None if same is None else float(same)
