"""A row of `decode.py`: the jobs of its peers, and the table of their results."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peers import ENGINE, LLAMA_CPP, OTHERS, Job, Result
from results import Results
from shapes import SHAPES, born_in_bfloat16, random_weights, write_gguf

from minigpt_tf.config import ModelConfig
from minigpt_tf.config.settings import to_dict
from minigpt_tf.interop.gguf.read_gguf import open_gguf

Figure = tuple[str, float | None, str]
"""Its name, its value, and the goal."""


@dataclass
class Row:
    """A part of the run: its peers take turns, and have one table."""

    title: str
    jobs: dict[str, Job]
    report: Callable[[Results], list[str]]
    """The table's lines."""
    figures: Callable[[Results], list[Figure]]
    results: dict[str, list[Result]] = field(default_factory=dict)
    """Of each round, by the jobs' labels."""


@dataclass
class Files:
    """The GGUF files of a run, written when they are first wanted."""

    scratch: Path
    real: Path | None = None
    """A Q4_1 file to measure instead of one of random weights."""
    model: Path | None = None
    """A model folder, for answers to natural prompts."""

    def gguf(self, shape: str, kind: str) -> tuple[Path, ModelConfig]:
        """The file of a shape with matrices of a kind (`write_gguf`), and its architecture."""
        if kind == "Q4_1" and self.real:
            return self.real.resolve(), open_gguf(self.real).config
        config, file = SHAPES[shape], self.scratch / f"{shape}-{kind}.gguf".replace(" ", "-")
        if not file.exists():
            weights = random_weights(config)
            if kind in ("BF16", F32_OF_BF16):
                weights = born_in_bfloat16(weights)
            write_gguf(weights, config, file, kind.split()[0])
        return file, config

    def engine(self, task: str, shape: str, kind: str, weights: str = "exact") -> Job:
        """A job for the engine."""
        file, config = self.gguf(shape, kind)
        job = {"peer": ENGINE, "task": task, "file": str(file), "config": to_dict(config)}
        return job | {"scratch": str(self.scratch), "weights": weights}

    def llama_cpp(self, task: str, shape: str, kind: str) -> Job:
        """A job for llama.cpp."""
        return {"peer": LLAMA_CPP, "task": task, "file": str(self.gguf(shape, kind)[0])}

    def other(self, task: str, shape: str, **arguments: str) -> Job:
        """A job for another peer, in float32."""
        file, config = self.gguf(shape, "F32")
        job = {"peer": OTHERS, "task": task, "file": str(file), "config": to_dict(config)}
        return job | arguments


F32_OF_BF16 = "F32 of BF16"
"""The values of the file in bfloat16, in 32 bits."""
READ: Job = {"peer": OTHERS, "task": "streaming_read"}
STREAMING = "streaming read"
