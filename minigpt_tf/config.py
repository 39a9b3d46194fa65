"""Every setting of the package, with its default and its help text. No other module has defaults.

A setting is a dataclass field (`options.setting`), and an option of the command line;
`__post_init__` refuses what cannot work.
"""

from dataclasses import dataclass
from typing import Literal

from .errors import ConfigError
from .options import LARGEST_INTEGER, check_types, require_at_least, setting

MODELS_DIRECTORY = "models"
MODEL_NAME = "model.h5"
CONFIG_NAME = "config.json"
CHECKPOINT_NAME = "checkpoint"
RUN_NAME = "run.json"
"""Names in a model folder, which `modelfolder` describes; RUN_NAME lies in the checkpoint."""

CACHE_NAME = "minigpt_tf"
"""The folder in the user's cache folder where tokenised texts are kept (`text.cache`)."""

CACHE_DAYS = 30
"""Entries of the cache that were not used for so long are removed."""

FORMAT_VERSION = 1
"""Version of the model folder's layout. A folder of a newer version is refused."""

WORD_TOKENIZER_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
"""Characters that Keras's Tokenizer turns into spaces."""

OOV_TOKEN = "<OOV>"
"""What an unknown word becomes; always id 1, as in Keras's Tokenizer."""

CHAT_TOKENS = 512
"""Length of a chat model's answer at most, in tokens, unless told otherwise: such models end their
answers themselves."""

USEFUL_THREADS = 8
"""More threads do not read memory faster when decoding, and wait longer for each other."""

MOST_EVALUATION_TOKENS = 2**17
"""Tokens of the validation part that are scored at each evaluation, unless told otherwise."""

MOST_LAYERS = 10_000
MOST_THREADS = 256
"""Bounds that no sensible setting reaches; beyond them numbers overflow and loops do not end."""

LLAMA3_SCALING = ("low_freq_factor", "high_freq_factor", "original_context_length")
"""What `rope_scaling` holds beside its factor, in Llama 3's kind."""

EXPORTS_DIRECTORY = "exports"
"""Where exported models go, unless told otherwise."""

EXPORT_DTYPES = {
    "hf": ("f32", "f16", "bf16"),
    "gguf": ("f32", "f16", "q8_0"),
    "keras": ("f32",),
    "h5": ("f32",),
}
"""The types of numbers that a format can hold a model's weights in."""

END_OF_TEXT = "<|endoftext|>"
"""Separates documents in the byte-level tokenizers (GPT-2's token 50256)."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a GPT: the switches of `build_gpt_model`.

    `num_kv_heads`, `head_dim` and `ff_dim` may be left None; they are then filled in, so that a
    ModelConfig always holds numbers.
    """

    vocab_size: int = setting(5000, "number of token ids the model knows")
    context_length: int = setting(100, "longest sequence the model sees, in tokens")
    embed_dim: int = setting(256, "width of the residual stream")
    num_layers: int = setting(4, "number of transformer blocks")
    num_heads: int = setting(8, "query heads of each attention layer")
    num_kv_heads: int | None = setting(None, "key/value heads (unset: num_heads)")
    head_dim: int | None = setting(None, "width of one head (unset: embed_dim / num_heads)")
    ff_dim: int | None = setting(None, "width of the feed-forward layer (unset: 4 x embed_dim)")
    dropout: float = setting(0.1, "share of activations dropped in training")
    positions: Literal["sinusoidal", "learned", "rotary"] = setting(
        "sinusoidal", "how positions are encoded"
    )
    rope_theta: float = setting(10000.0, "base of the rotary angles")
    rope_scaling: dict[str, float] | None = setting(
        None,
        "how rotary angles are stretched for longer contexts: factor alone (linear), or with "
        "low_freq_factor, high_freq_factor and original_context_length (Llama 3); may be repeated",
        optional_in_files=True,
    )
    norm: Literal["layer", "rms"] = setting("layer", "layer or RMS normalisation")
    norm_first: bool = setting(
        False, "normalise before each sublayer (GPT-2) or after (2017 paper)"
    )
    norm_epsilon: float = setting(1e-6, "added to the variance in the norms")
    activation: Literal["relu", "gelu", "gelu_tanh", "swiglu"] = setting(
        "relu", "feed-forward activation; gelu_tanh is GPT-2's approximation"
    )
    use_bias: bool = setting(True, "biases in dense layers and layer norms")
    qkv_bias: bool = setting(True, "biases in the query, key and value projections")
    logits_bias: bool = setting(True, "bias in an untied output head")
    tie_embeddings: bool = setting(False, "output head shares the token embedding's matrix")

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(self, "vocab_size", 2)
        for name in ("context_length", "embed_dim", "num_layers", "num_heads"):
            require_at_least(self, name, 1)
        if self.num_kv_heads is None:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        if self.head_dim is None:
            if self.embed_dim % self.num_heads:
                raise ConfigError(
                    f"embed_dim={self.embed_dim} does not divide into num_heads={self.num_heads} "
                    "heads: choose a multiple, or give --head-dim"
                )
            object.__setattr__(self, "head_dim", self.embed_dim // self.num_heads)
        if self.ff_dim is None:
            object.__setattr__(self, "ff_dim", 4 * self.embed_dim)
        for name in ("num_kv_heads", "head_dim", "ff_dim"):
            require_at_least(self, name, 1)
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_heads={self.num_heads} is not a multiple of num_kv_heads="
                f"{self.num_kv_heads}: choose both so that it is"
            )
        if self.positions == "sinusoidal" and self.embed_dim % 2:
            raise ConfigError(
                f"embed_dim={self.embed_dim}: sinusoidal positions need an even width"
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise ConfigError(f"head_dim={self.head_dim}: rotary positions need an even head width")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout}: must be at least 0 and below 1")
        if not self.rope_theta > 0:
            raise ConfigError(f"rope_theta={self.rope_theta}: must be a positive number")
        if self.rope_scaling is not None:
            _check_rope_scaling(self.rope_scaling)
        if not 0 < self.norm_epsilon <= 1:
            raise ConfigError(f"norm_epsilon={self.norm_epsilon}: must be above 0 and at most 1")
        if self.num_layers > MOST_LAYERS:
            raise ConfigError(f"num_layers={self.num_layers}: must be at most {MOST_LAYERS}")

    @property
    def parameter_count(self) -> int:
        """Trainable parameters of the model, from the sizes alone (equals Keras's count)."""
        D, F, bias = self.embed_dim, self.ff_dim, int(self.use_bias)
        q_width, kv_width = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = D * (q_width + 2 * kv_width) + q_width * D + bias * D
        attention += int(self.qkv_bias) * (q_width + 2 * kv_width)
        up_projections = 2 if self.activation == "swiglu" else 1
        feed_forward = up_projections * (D * F + bias * F) + F * D + bias * D
        norm = D * (2 if self.norm == "layer" and self.use_bias else 1)
        total = self.num_layers * (attention + feed_forward + 2 * norm)
        total += self.vocab_size * D  # token embedding
        total += self.context_length * D if self.positions == "learned" else 0
        total += norm if self.norm_first else 0
        if not self.tie_embeddings:
            total += self.vocab_size * (D + int(self.logits_bias))
        return total


def _check_rope_scaling(scaling: dict[str, float]) -> None:
    """Raises ConfigError where the numbers are not those of linear or Llama 3's scaling."""
    names = set(scaling)
    if names not in ({"factor"}, {"factor", *LLAMA3_SCALING}):
        raise ConfigError(
            f"rope_scaling={scaling}: expected factor, and beside it nothing or "
            + ", ".join(LLAMA3_SCALING)
        )
    if not all(0 < value <= LARGEST_INTEGER for value in scaling.values()):
        raise ConfigError(f"rope_scaling={scaling}: expected positive numbers")
    if len(names) > 1 and not scaling["low_freq_factor"] < scaling["high_freq_factor"]:
        raise ConfigError(f"rope_scaling={scaling}: low_freq_factor must be below high_freq_factor")


@dataclass(frozen=True)
class DataConfig:
    """How text becomes training windows."""

    tokenizer: Literal["word", "char", "bpe", "gpt2"] = setting(
        "word", "word (Keras's Tokenizer), char, bpe (trained on the text), gpt2 (OpenAI's)"
    )
    encoding: str = setting("utf-8", "encoding of the text files")
    val_split: float = setting(0.1, "last share of the text, kept for validation (0: none)")
    stride: int = setting(1, "distance between the starts of two training windows, in tokens")

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(self, "stride", 1)
        if not 0 <= self.val_split < 1:
            raise ConfigError(f"val_split={self.val_split}: must be at least 0 and below 1")
        _check_encoding(self.encoding)


def _check_encoding(name: str) -> None:
    """Raises ConfigError where Python knows no encoding of that name."""
    try:
        "a".encode(name)
    except (LookupError, UnicodeError):
        raise ConfigError(f"encoding={name!r}: no such encoding") from None


@dataclass(frozen=True)
class RecordsConfig:
    """How records for fine-tuning are read, split, and made into rows of tokens."""

    map: dict[str, str] | None = setting(
        None, "a name here and the file's name for it, such as output=answer; may be repeated"
    )
    query: str | None = setting(
        None, "the SELECT whose rows are the records, where --data is a database"
    )
    sheet: str | None = setting(None, "the sheet of an .xlsx file (unset: the first)")
    encoding: str = setting("utf-8", "encoding of the file")
    quoting: Literal["auto", "always", "never"] = setting(
        "auto",
        'whether " encloses cells of a table; auto: where every " in the file stands as if it did',
    )
    val_split: float = setting(0.1, "share of the records kept for validation (0: none)")
    test_split: float = setting(0.0, "share of the records kept for a test at the end (0: none)")
    balance: bool = setting(False, "keep as many records of every label as there are of the rarest")
    train_on: Literal["answers", "everything"] = setting(
        "answers", "the tokens whose loss counts: answers and their end, or prompts too"
    )
    cut: Literal["middle", "start"] = setting(
        "middle", "what a prompt loses that is too long for the context"
    )
    length_multiple: int = setting(
        32, "batches are padded to a multiple of so many tokens: fewer shapes, more padding"
    )
    near_duplicate: float = setting(
        0.8, "share of common five-letter pieces from which two prompts are told as near duplicates"
    )

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(self, "length_multiple", 1)
        for name in ("val_split", "test_split"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be at least 0 and below 1")
        if self.val_split + self.test_split >= 1:
            raise ConfigError(
                f"val_split={self.val_split} and test_split={self.test_split} leave nothing to "
                "train on: choose less"
            )
        if not 0.5 <= self.near_duplicate <= 1:
            raise ConfigError(
                f"near_duplicate={self.near_duplicate}: must be at least 0.5 and at most 1"
            )
        _check_encoding(self.encoding)


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. One step is one batch; an epoch is one pass over all windows."""

    epochs: int = setting(10, "passes over the training windows")
    steps: int | None = setting(None, "number of batches, instead of --epochs")
    batch_size: int = setting(32, "windows in a batch")
    accumulate: int = setting(
        1, "parts in which a batch is computed, for batches that do not fit into memory"
    )
    remat: bool = setting(
        False, "compute every block again for its gradients: less memory, a third more time"
    )
    learning_rate: float = setting(1e-3, "highest learning rate")
    optimizer: Literal["adam", "adamw", "muon"] = setting("adam", "optimizer")
    schedule: Literal["constant", "cosine", "linear"] = setting(
        "cosine",
        "learning rate after warm-up: constant, a cosine down to a tenth, or linear down to 0",
    )
    warmup_steps: int | None = setting(
        None, "steps over which the learning rate rises from 0 (unset: a tenth of all, at most 100)"
    )
    weight_decay: float = setting(0.0, "weight decay of adamw and muon")
    beta_2: float = setting(0.999, "decay of the squared-gradient average of the optimizer")
    epsilon: float = setting(
        1e-7,
        "adam and adamw: added to the root of the squared-gradient average; larger is calmer",
        optional_in_files=True,
    )
    clip_norm: float = setting(1.0, "longest gradient, as a global norm (0: no clipping)")
    dtype: Literal["auto", "float32", "mixed_bfloat16"] = setting(
        "auto", "arithmetic; auto takes mixed_bfloat16 where it is measured faster here"
    )
    seed: int = setting(1337, "seed of weights, dropout and data order")
    eval_every: int | None = setting(
        None, "steps between evaluations (unset: an epoch, at most 250)"
    )
    eval_share: float | None = setting(
        None,
        "share of the validation part scored at each evaluation, spread evenly over it (unset: "
        f"all, or the share that has {MOST_EVALUATION_TOKENS:,} tokens)",
    )
    checkpoint_every: int | None = setting(
        None, "steps between checkpoints, beside those by time (unset: by time alone)"
    )
    checkpoint_minutes: float = setting(2.0, "minutes between checkpoints")
    sample_prompt: str | None = setting(
        None, "prompt of the sample shown at each evaluation (unset: how the text begins)"
    )
    sample_tokens: int = setting(30, "length of that sample, in tokens")
    early_stopping: int | None = setting(
        None,
        "stop after this many evaluations without a better validation loss (training loss, where "
        "there is no validation)",
    )
    keep: Literal["auto", "last", "best"] = setting(
        "auto",
        "weights that go into model.h5: the last, or those of the best validation loss (training "
        "loss, where there is no validation); auto takes the best with --early-stopping, else the "
        "last",
    )

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("epochs", "batch_size", "accumulate", "sample_tokens"):
            require_at_least(self, name, 1)
        for name in ("steps", "eval_every", "early_stopping", "checkpoint_every"):
            if getattr(self, name) is not None:
                require_at_least(self, name, 1)
        for name in ("weight_decay", "clip_norm", "seed"):
            require_at_least(self, name, 0)
        if self.warmup_steps is not None:
            require_at_least(self, "warmup_steps", 0)
        if self.eval_share is not None and not 0 < self.eval_share <= 1:
            raise ConfigError(f"eval_share={self.eval_share}: must be above 0 and at most 1")
        if not self.checkpoint_minutes > 0:
            raise ConfigError(f"checkpoint_minutes={self.checkpoint_minutes}: must be above 0")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate={self.learning_rate}: must be a positive number")
        if not 0 < self.epsilon < 1:
            raise ConfigError(f"epsilon={self.epsilon}: must be between 0 and 1")
        if not 0 < self.beta_2 < 1:
            raise ConfigError(f"beta_2={self.beta_2}: must be between 0 and 1")
        if self.weight_decay and self.optimizer == "adam":
            raise ConfigError("weight_decay works with --optimizer adamw or muon, not with adam")
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size={self.batch_size} does not divide into accumulate={self.accumulate} "
                "parts: choose a multiple"
            )


@dataclass(frozen=True)
class WorkersConfig:
    """Who trains together. It belongs to the machines, not to the run: a run may be resumed by
    another number of workers."""

    workers: str | None = setting(
        None,
        "host:port of every worker, with commas between; start the same command on each (unset: "
        "the cluster in TF_CONFIG, or this process alone)",
    )
    worker_index: int | None = setting(
        None, "which of --workers this process is; 0 writes the model folder"
    )

    def __post_init__(self) -> None:
        check_types(self)
        if (self.workers is None) != (self.worker_index is None):
            raise ConfigError("--workers and --worker-index belong together: give both")


@dataclass(frozen=True)
class EngineConfig:
    """How a trained model is run."""

    quantize: Literal["none", "int8"] = setting(
        "none", "weights in memory: float32, or int8, which is faster and kept beside the model"
    )
    threads: int | None = setting(
        None,
        "threads that decode; prompts are read on all cores (unset: the cores this process may "
        f"use, at most {USEFUL_THREADS})",
    )

    def __post_init__(self) -> None:
        check_types(self)
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ConfigError(f"threads={self.threads}: must be from 1 to {MOST_THREADS}")


@dataclass(frozen=True)
class SamplingConfig:
    """How the next token is chosen; the filters apply in the order of the fields."""

    max_new_tokens: int = setting(60, "number of tokens to generate at most")
    logit_bias: dict[int, float] | None = setting(
        None, "adds a number to the score of a token id, before all else; may be repeated"
    )
    repetition_penalty: float = setting(1.0, "divides the scores of tokens already there (1: off)")
    no_repeat_ngram: int = setting(0, "never say the same n tokens in a row twice (0: off)")
    temperature: float = setting(0.8, "below 1 safer, above 1 wilder, 0 the same as --greedy")
    top_k: int = setting(0, "choose among the k most likely tokens (0: off)")
    top_p: float = setting(
        0.95, "choose among the likeliest tokens that together have probability p"
    )
    min_p: float = setting(0.0, "drop tokens less likely than this share of the likeliest")
    greedy: bool = setting(False, "always take the most likely token")
    seed: int | None = setting(None, "same seed, same text (unset: different each time)")
    stop: tuple[str, ...] = setting((), "end before this text; may be repeated")
    context_full: Literal["slide", "stop"] = setting(
        "slide", "when the context is full: go on from its newer half, or end"
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


@dataclass(frozen=True)
class ExportConfig:
    """How a model is handed to other tools."""

    format: Literal["hf", "gguf", "keras", "h5"] = setting(
        "hf",
        "hf (a folder for transformers), gguf (a file for llama.cpp), keras (Keras 3's archive) or "
        "h5 (model.h5 as it is)",
    )
    dtype: Literal["f32", "f16", "bf16", "q8_0"] = setting(
        "f32", "numbers of the weights; keras and h5 have f32 alone, q8_0 is gguf's"
    )

    def __post_init__(self) -> None:
        check_types(self)
        allowed = EXPORT_DTYPES[self.format]
        if self.dtype not in allowed:
            raise ConfigError(
                f"--format {self.format} has no --dtype {self.dtype}: choose {', '.join(allowed)}"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """How a model is measured."""

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
