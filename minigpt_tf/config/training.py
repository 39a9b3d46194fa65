"""How a model is trained: on what, in which steps, by whom."""

from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError
from .constants import MOST_EVALUATION_TOKENS
from .settings import accepts_old_names, check_types, documented, require_at_least, setting


@documented
@dataclass(frozen=True)
class DataConfig:
    """How text becomes training windows.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.DataConfig(tokenizer="char", stride_fraction=0.5).stride_for(64)
        32
    """

    tokenizer: Literal["word", "char", "bpe", "gpt2"] = setting(
        "word", "word (Keras's Tokenizer), char, bpe (trained on the text), gpt2 (OpenAI's)"
    )
    encoding: str = setting("utf-8", "encoding of the text files")
    val_split: float = setting(0.1, "last fraction of the text, kept for validation (0: none)")
    stride: int | None = setting(
        None, "tokens between the starts of two training windows: at most the context"
    )
    stride_fraction: float | None = setting(
        None,
        "the same as a fraction of the context, instead of --stride (neither: 1 token)",
        optional_in_files=True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        if self.stride is not None:
            require_at_least(self, "stride", 1)
        if self.stride_fraction is not None and not 0 < self.stride_fraction <= 1:
            raise ConfigError(
                f"stride_fraction={self.stride_fraction}: must be above 0 and at most 1"
            )
        if self.stride is not None and self.stride_fraction is not None:
            raise ConfigError(
                f"stride={self.stride} and stride_fraction={self.stride_fraction} exclude each "
                "other: give one"
            )
        if not 0 <= self.val_split < 1:
            raise ConfigError(f"val_split={self.val_split}: must be at least 0 and below 1")
        check_encoding(self.encoding)

    def stride_for(self, context_length: int) -> int:
        """How far apart windows start.

        Args:
            context_length: Tokens in a window.

        Returns:
            Tokens between the starts of two windows.
        """
        if self.stride is not None:
            return self.stride
        return max(1, round((self.stride_fraction or 0) * context_length))


def check_encoding(name: str) -> None:
    """Raises ConfigError where Python knows no encoding of that name."""
    try:
        "a".encode(name)
    except (LookupError, ValueError):  # ValueError: a zero in it
        raise ConfigError(f"encoding={name!r:.40}: no such encoding") from None


@documented
@accepts_old_names
@dataclass(frozen=True)
class RecordsConfig:
    """How records for fine-tuning are read, split, and made into rows of tokens.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.RecordsConfig(map={"output": "answer"}, val_split=0.2).train_on
        'answers'
    """

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
    val_split: float = setting(0.1, "fraction of the records kept for validation (0: none)")
    test_split: float = setting(0.0, "fraction of the records kept for a test at the end (0: none)")
    balance: bool = setting(False, "keep as many records of every label as there are of the rarest")
    train_on: Literal["answers", "everything"] = setting(
        "answers", "the tokens whose loss counts: answers and their end, or prompts too"
    )
    truncation: Literal["middle", "start"] = setting(
        "middle",
        "what is dropped of a prompt, or a text to classify, that is too long for the context",
        old_name="cut",
    )
    length_multiple: int = setting(
        32, "batches are padded to a multiple of so many tokens: fewer shapes, more padding"
    )
    near_duplicate: float = setting(
        0.8,
        "fraction of common five-letter sequences from which two prompts count as near duplicates",
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
        check_encoding(self.encoding)


@documented
@accepts_old_names
@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. One step is one batch; an epoch is one pass over all windows.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.TrainingConfig(steps=200, optimizer="adamw", weight_decay=0.1).batch_size
        32
    """

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
    jit_compile: Literal["auto", "always", "never"] = setting(
        "auto", "whether XLA compiles the training step; auto: on one GPU", optional_in_files=True
    )
    seed: int = setting(1337, "seed of weights, dropout and data order")
    eval_every: int | None = setting(
        None, "steps between evaluations (unset: an epoch, at most 250)"
    )
    eval_fraction: float | None = setting(
        None,
        "fraction of the validation set scored at each evaluation, spread evenly over it (unset: "
        f"all, or the fraction that has {MOST_EVALUATION_TOKENS:,} tokens)",
        old_name="eval_share",
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
        "stop after this many evaluations without a better validation loss (training loss, "
        "without validation)",
    )
    keep: Literal["auto", "last", "best"] = setting(
        "auto",
        "weights that go into model.h5: the last, or those of the best validation loss (training "
        "loss, without validation); auto takes the best with --early-stopping, else the "
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
        if self.eval_fraction is not None and not 0 < self.eval_fraction <= 1:
            raise ConfigError(f"eval_fraction={self.eval_fraction}: must be above 0 and at most 1")
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
