"""The row of several streams."""

from results import Results, each, middle, ratio, shown
from rows import Figure, Files, Row
from shapes import SMOLLM2
from tasks import STREAMS


def batches_row(files: Files, shape: str) -> Row | None:
    """1 to 32 streams."""
    if shape != SMOLLM2:
        return None
    jobs = {
        "engine float32": files.engine("batches", shape, "F32"),
        "llama.cpp f32": files.llama_cpp("batches", shape, "F32"),
        "engine int8": files.engine("batches", shape, "F32", "int8"),
        "llama.cpp q8_0": files.llama_cpp("batches", shape, "Q8_0"),
    }
    pairs = (("engine float32", "llama.cpp f32"), ("engine int8", "llama.cpp q8_0"))

    def report(results: Results) -> list[str]:
        lines = [f"{'streams':<36}" + "".join(f"{streams:>8}" for streams in STREAMS)]
        for ours, theirs in pairs:
            kinds = [(ours, "rates", ours), (ours, "sampled", f"{ours}, sampled")]
            for label, key, name in [*kinds, (theirs, "rates", theirs)]:
                rates = [middle(each(results, label, key, streams)) for streams in STREAMS]
                lines.append(f"{name:<36}" + "".join(shown(rate, 8, 0) for rate in rates))
            for _, key, name in kinds:
                ratios = [batch_ratio(results, ours, theirs, key, n) for n in STREAMS]
                line = f"{'ratio ' + name.removeprefix('engine '):<36}"
                lines.append(line + "".join(shown(number, 8) for number in ratios))
        return lines

    def figures(results: Results) -> list[Figure]:
        return [
            (
                f"{streams} streams int8, sampled, to llama.cpp q8_0",
                batch_ratio(results, "engine int8", "llama.cpp q8_0", "sampled", streams),
                ">= 1.2",
            )
            for streams in (8, 16)
        ]

    return Row(f"{shape} batches, tokens a second of all streams", jobs, report, figures)


def batch_ratio(results: Results, ours: str, theirs: str, key: str, streams: int) -> float | None:
    """Ours, greedy or sampled, to theirs without sampling."""
    return ratio(each(results, ours, key, streams), each(results, theirs, "rates", streams))
