"""How a model is run, sampled, measured and handed to other tools."""

from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError
from .constants import EXPORT_DTYPES, MOST_GUESSES, MOST_THREADS, SIZED_FORMATS, USEFUL_THREADS
from .settings import check_types, documented, require_at_least, setting

ExportFormat = Literal[
    "hf", "gguf", "keras", "h5", "onnx", "tflite", "litert", "c", "web", "bundle"
]
ExportDType = Literal["f32", "f16", "bf16", "q8_0", "int8"]
"""Which of them a format has: EXPORT_DTYPES."""


@documented
@dataclass(frozen=True)
class EngineConfig:
    """How a trained model is run.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.EngineConfig(quantize="int8", threads=2)
        EngineConfig(quantize='int8', threads=2, speculate='auto')
    """

    quantize: Literal["none", "int8", "int4"] = setting(
        "none",
        "weights in memory: as they are, or rounded to int8 or int4, which are smaller and faster "
        "and kept beside the model",
    )
    threads: int | None = setting(
        None,
        f"threads that compute (unset: the cores this process may use, at most {USEFUL_THREADS})",
    )
    speculate: str = setting(
        "auto",
        "tokens to guess ahead with 8-bit weights or from the text, for the model to check; the "
        f"answer stays the same: a number from 1 to {MOST_GUESSES}, off, or auto: where it pays",
    )

    def __post_init__(self) -> None:
        check_types(self)
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ConfigError(f"threads={self.threads}: must be from 1 to {MOST_THREADS}")
        known = ("auto", "off", *map(str, range(1, MOST_GUESSES + 1)))
        if self.speculate not in known:
            raise ConfigError(
                f"speculate={self.speculate}: choose auto, off, or a number from 1 to "
                f"{MOST_GUESSES}"
            )


@documented
@dataclass(frozen=True)
class SamplingConfig:
    """How the next token is chosen; the filters apply in the order of the fields.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.SamplingConfig(temperature=0.7, top_k=40, seed=1).max_new_tokens
        60
    """

    max_new_tokens: int = setting(60, "number of tokens to generate at most")
    logit_bias: dict[int, float] | None = setting(
        None, "adds a number to the score of a token id, before all else; may be repeated"
    )
    repetition_penalty: float = setting(1.0, "divides the scores of tokens already there (1: off)")
    presence_penalty: float = setting(
        0.0, "lowers the scores of tokens that the answer has already, from -2 to 2 (0: off)"
    )
    frequency_penalty: float = setting(
        0.0, "the same, times how often the answer has the token, from -2 to 2 (0: off)"
    )
    no_repeat_ngram: int = setting(0, "never say the same n tokens in a row twice (0: off)")
    temperature: float = setting(0.8, "below 1 safer, above 1 wilder, 0 the same as --greedy")
    top_k: int = setting(0, "choose among the k most likely tokens (0: off)")
    top_p: float = setting(
        0.95, "choose among the most likely tokens that together have probability p"
    )
    min_p: float = setting(0.0, "drop tokens less likely than this fraction of the most likely")
    greedy: bool = setting(False, "always take the most likely token")
    seed: int | None = setting(None, "same seed, same text (unset: different each time)")
    stop: tuple[str, ...] = setting(
        (), r"end before this text, in which \n is a line end; may be repeated", escapes=True
    )
    context_full: Literal["slide", "stop"] = setting(
        "slide", "when the context is full: continue from its newer half, or end"
    )

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("max_new_tokens", "no_repeat_ngram", "temperature", "top_k"):
            require_at_least(self, name, 0)
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p}: must be above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p={self.min_p}: must be between 0 and 1")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise ConfigError(
                f"repetition_penalty={self.repetition_penalty}: must be between 0.01 and 100"
            )
        for name in ("presence_penalty", "frequency_penalty"):
            if not -2 <= getattr(self, name) <= 2:
                raise ConfigError(f"{name}={getattr(self, name)}: must be between -2 and 2")
        if self.temperature and not 1e-3 <= self.temperature <= 1e3:
            raise ConfigError(f"temperature={self.temperature}: must be 0, or from 0.001 to 1000")
        if self.seed is not None:
            require_at_least(self, "seed", 0)
        for token_id, bias in (self.logit_bias or {}).items():
            if not (token_id >= 0 and abs(bias) <= 1000):
                raise ConfigError(
                    f"logit_bias={token_id}={bias}: expected a token id and a number from -1000 to "
                    "1000"
                )
        if "" in self.stop:
            raise ConfigError("stop: an empty text would end every answer at once")


@documented
@dataclass(frozen=True)
class EvaluationConfig:
    """How a model is measured.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.EvaluationConfig(window=256, stride=128, samples=0).backend
        'engine'
    """

    window: int = setting(
        1024, "longest window, in tokens; a model with a shorter context has windows of that"
    )
    stride: int | None = setting(
        None,
        "how far a window moves; of each one only the tokens count that none before it has scored, "
        "so a smaller stride gives every token more context (unset: windows do not overlap)",
    )
    batches: int | None = setting(
        None, "score only so many batches of one window, spread evenly over the text (unset: all)"
    )
    backend: Literal["engine", "keras"] = setting(
        "engine", "what computes the loss; texts are always generated by the engine"
    )
    samples: int = setting(8, "texts to generate, for repetition and copies (0: none)")
    sample_tokens: int = setting(100, "length of those texts, in tokens")
    prompt_tokens: int = setting(
        8, "length of their prompts, which are cut from the text that is scored (0: no prompts)"
    )
    temperature: float = setting(0.8, "of those texts; 0 is greedy")
    seed: int = setting(1337, "seed of prompts and texts")

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("window", "sample_tokens"):
            require_at_least(self, name, 1)
        for name in ("stride", "batches"):
            if getattr(self, name) is not None:
                require_at_least(self, name, 1)
        for name in ("samples", "prompt_tokens", "seed"):
            require_at_least(self, name, 0)
        SamplingConfig(temperature=self.temperature)  # raises what it would raise later


@documented
@dataclass(frozen=True)
class ExportConfig:
    """How a model is handed to other tools.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.ExportConfig(format="gguf", dtype="q8_0")
        ExportConfig(format='gguf', dtype='q8_0', ...)
    """

    format: ExportFormat = setting(
        "hf",
        "hf (a folder for transformers), gguf (a file for llama.cpp), keras (Keras 3's archive), "
        "h5 (model.h5 as it is), onnx (a folder for onnxruntime), tflite (a file for LiteRT), "
        "litert (a .litertlm file for LiteRT-LM), c (a program in C), web (a page that runs in the "
        "browser) or bundle (one file that Python runs)",
    )
    dtype: ExportDType = setting(
        "f32",
        "numbers of the weights: f16 for hf and gguf, bf16 for hf, q8_0 for gguf, c, web, bundle, "
        "int8 for tflite and litert",
    )
    context_length: int | None = setting(
        None, "tokens that a tflite or litert file has room for (unset: the model's, at most 1,024)"
    )

    def __post_init__(self) -> None:
        check_types(self)
        allowed = EXPORT_DTYPES[self.format]
        if self.dtype not in allowed:
            raise ConfigError(
                f"--format {self.format} has no --dtype {self.dtype}: choose {', '.join(allowed)}"
            )
        if self.context_length is not None:
            require_at_least(self, "context_length", 1)
            if self.format not in SIZED_FORMATS:
                raise ConfigError(
                    f"--format {self.format} has no --context-length: it keeps the model's"
                )
