"""What a run will do, settled and checked before TensorFlow is imported."""

import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config import MOST_EVALUATION_TOKENS, DataConfig, ModelConfig, TrainingConfig
from ..config.presets import DEFAULT_PRESET, data_preset, model_preset, training_preset
from ..config.settings import split_settings
from ..errors import ConfigError
from ..events import SILENT, Listener, NoticeLog
from ..files.documents import read_documents
from ..files.sources import as_source, full_name
from ..planning.fitting import check_fits, check_weights_fit
from ..planning.workload import Schedule, Workload, text_schedule, text_workload
from ..text.corpus import (
    Corpus,
    build_corpus,
    check_validation,
    describe,
    fit_context,
    learn_tokenizer,
)
from ..text.tokenizers import BaseTokenizer
from ..text.windows import TrainingWindows, check_window

LONGEST_EVALUATION_INTERVAL = 250
"""Most steps between evaluations by default; a shorter epoch is evaluated at its end."""


@dataclass(frozen=True)
class Plan:
    """All that decides a run's outcome: what `make_plan` returns and `train` takes."""

    preset: str
    sources: list[Path | str]
    """Files, folders and URLs."""
    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    corpus: Corpus
    reading: float = field(default=0.0, compare=False)
    """Seconds that it took to read the text."""

    @property
    def source_names(self) -> list[str]:
        """The sources as URLs and absolute paths."""
        return [full_name(source) for source in self.sources]

    @property
    def start_ids(self) -> list[int]:
        """The tokens from which an empty prompt starts: the first of the training text."""
        return [int(self.corpus.train_ids[0])]

    @property
    def sample_prompt(self) -> str:
        """The prompt of the samples: the one given, or the first words of the text."""
        if self.training.sample_prompt is not None:
            return self.training.sample_prompt
        first_line = self.corpus.opening.lstrip().split("\n")[0]
        return " ".join(first_line.split()[:4])

    def windows(self) -> TrainingWindows:
        """The training windows, in the order that the seed gives."""
        return TrainingWindows(
            self.corpus.train_ids,
            self.model.context_length,
            batch_size=self.training.batch_size,
            stride=self.data.stride_for(self.model.context_length),
            seed=self.training.seed,
        )

    @property
    def total_steps(self) -> int:
        """Steps of the whole run: as set, or those of the epochs."""
        windows = self.windows().count
        epochs = math.ceil(self.training.epochs * windows / self.training.batch_size)
        return self.training.steps or epochs

    def epoch_of(self, step: int) -> float:
        """How often the windows have been seen.

        Args:
            step: Steps done.

        Returns:
            Epochs, such as 1.5.
        """
        return step * self.training.batch_size / self.windows().count

    @property
    def eval_fraction(self) -> float:
        """Fraction of the validation split that each evaluation scores."""
        fraction = MOST_EVALUATION_TOKENS / max(1, len(self.corpus.val_ids))
        return self.training.eval_fraction or min(1.0, fraction)

    @property
    def eval_every(self) -> int:
        """Steps between evaluations."""
        epoch = min(self.windows().steps_per_epoch, LONGEST_EVALUATION_INTERVAL)
        return self.training.eval_every or epoch

    @property
    def workload(self) -> Workload:
        """What decides how much memory the run takes."""
        return text_workload(self.model, self.training)

    @property
    def schedule(self) -> Schedule:
        """What the run computes."""
        return text_schedule(
            self.model,
            self.training,
            steps=self.total_steps,
            eval_every=self.eval_every,
            scored=self.eval_fraction * len(self.corpus.val_ids),
            reading=self.reading,
        )

    def report(self) -> Iterator[tuple[str, str]]:
        """What to show before training.

        Yields:
            (name, value), both texts.
        """
        yield from describe(self.corpus, self.data, self.model)
        yield "model", f"{self.model.parameter_count:,} parameters"
        steps, size = self.total_steps, self.training.batch_size
        yield "training", f"{steps:,} steps of {size} windows, {self.epoch_of(steps):.4g} epochs"
        if len(self.corpus.val_ids):
            fraction = f"{self.eval_fraction:.3g} of the validation split"
            yield "evaluation", f"every {self.eval_every:,} steps, on {fraction}"


def make_plan(
    sources: Iterable[str | os.PathLike],
    model: ModelConfig,
    data: DataConfig,
    training: TrainingConfig,
    *,
    preset: str = DEFAULT_PRESET,
    may_shrink_context: bool = True,
    may_leave_gaps: bool = False,
    tokenizer: BaseTokenizer | None = None,
    listener: Listener | None = None,
) -> Plan:
    """Reads the text, makes the tokenizer (unless one is given) and fits the model to both.

    Args:
        sources: Text files, folders, URLs.
        model: The architecture. Its vocab_size bounds the tokenizer; what the tokenizer needs
            becomes the plan's.
        data: How the text becomes windows.
        training: How the model is trained.
        preset: The name under which the settings were chosen.
        may_shrink_context: Whether a text shorter than the context shrinks the context.
        may_leave_gaps: Whether the stride may be larger than a window, as in runs of older
            versions that are resumed.
        tokenizer: One that exists already (unset: it is learned from the text).
        listener: Receives progress and notices.

    Returns:
        What `train` takes.

    Raises:
        DataError: The text cannot be read, or is too short.
        ConfigError: Settings do not fit each other.

    Example:
        >>> import minigpt_tf as mg
        >>> from pathlib import Path
        >>> _ = Path("notes.txt").write_text("who is hardy? a friend of ramanujan. " * 20)
        >>> model, training = mg.model_preset("lecture", context_length=16), mg.TrainingConfig()
        >>> plan = mg.make_plan(["notes.txt"], model, mg.DataConfig(), training)
        >>> plan.model.context_length, plan.total_steps
        (16, 35)
    """
    began = time.perf_counter()
    listener = NoticeLog(listener or SILENT)  # shows a notice once, for tokenizer and ids
    check_weights_fit(
        model.parameter_count, training.optimizer
    )  # before a tokenizer of that size is trained
    _with_stride(data, model.context_length, may_leave_gaps)  # fails before anything is read
    places = [as_source(source) for source in sources]
    documents = read_documents(places, data.encoding, listener)
    if tokenizer is None:
        tokenizer = learn_tokenizer(documents, data.tokenizer, model.vocab_size, listener)
    corpus = build_corpus(documents, tokenizer, data, listener)
    context = fit_context(corpus, model.context_length, may_shrink=may_shrink_context)
    if context < model.context_length:
        listener.notice(
            f"the text is shorter than the context of {model.context_length} tokens: the context "
            f"is now {context}"
        )
    check_validation(corpus, data.val_split)
    data = _with_stride(data, context, may_leave_gaps)
    model = replace(model, vocab_size=tokenizer.vocab_size, context_length=context)
    check_fits(text_workload(model, training))
    reading = time.perf_counter() - began
    plan = Plan(preset, places, model, data, training, corpus, reading)
    if (training.warmup_steps or 0) >= plan.total_steps > 1:
        raise ConfigError(
            f"warmup_steps={training.warmup_steps}: must be fewer than the {plan.total_steps} steps"
        )
    return plan


def plan_from_preset(
    sources: str | os.PathLike | Iterable[str | os.PathLike],
    preset: str = DEFAULT_PRESET,
    *,
    recipe: str | None = None,
    listener: Listener | None = None,
    **settings: Any,
) -> Plan:
    """The plan of a preset with some settings replaced.

    Args:
        sources: a text file, a folder, a URL, or several of them.
        preset: where the settings start: its model, its tokenizer and its training go together.
        recipe: how to train, instead of the preset's own.
        listener: receives progress and notices.
        settings: fields of ModelConfig, DataConfig and TrainingConfig, such as `epochs=3`.

    Returns:
        What `train` takes.

    Raises:
        ConfigError: a setting is unknown or does not fit.
        DataError: the text cannot be read, or is too short.

    Example:
        >>> import minigpt_tf as mg
        >>> from pathlib import Path
        >>> _ = Path("notes.txt").write_text("who is hardy? a friend of ramanujan. " * 20)
        >>> plan = mg.plan_from_preset("notes.txt", "shakespeare", steps=30, context_length=32)
        >>> plan.model.vocab_size, plan.total_steps
        (18, 30)
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    found = split_settings(settings, (ModelConfig, DataConfig, TrainingConfig))
    given, data, training = found[ModelConfig], found[DataConfig], found[TrainingConfig]
    chosen = data_preset(preset, **data)
    if "vocab_size" in given:
        if chosen.tokenizer in ("char", "gpt2"):
            raise ConfigError(
                f"--vocab-size does nothing with --tokenizer {chosen.tokenizer}: drop it"
            )
    elif chosen.tokenizer != data_preset(preset).tokenizer:
        given["vocab_size"] = ModelConfig.vocab_size  # the preset's belongs to its own tokenizer
    return make_plan(
        sources,
        model_preset(preset, **given),
        chosen,
        training_preset(preset, recipe=recipe, **training),
        preset=preset,
        may_shrink_context="context_length" not in given,
        listener=listener,
    )


def _with_stride(data: DataConfig, context_length: int, may_leave_gaps: bool) -> DataConfig:
    """The settings with the stride as a number of tokens."""
    stride = data.stride_for(context_length)
    if not may_leave_gaps:
        check_window(context_length, stride)
    return replace(data, stride=stride, stride_fraction=None)
