"""A fine-tuned model as a model folder: what it has of its base, and what it has learned."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import CONFIG_NAME, MODEL_NAME
from ..modelfolder import (
    CHAT_TEMPLATE_NAME,
    QUANTIZED_NAME,
    SCRATCH_PREFIX,
    clear_leftovers,
    describe_model,
    staging,
    write_json,
    write_tokenizer,
)
from ..training.checkpoint import RunState
from ..training.records import write_loss_picture
from ..training.saving import save_model
from .plan import FineTuningPlan
from .prompts import ALPACA_CHAT_TEMPLATE

OWN_FILES = {MODEL_NAME, CONFIG_NAME, QUANTIZED_NAME, "history.csv", "loss.png", "samples.txt"}
"""Files of a base that are not its licence or the like."""


def save_fine_tuned(
    out: Path,
    plan: FineTuningPlan,
    weights: Mapping[str, Any],
    state: RunState,
    sections: dict[str, Any],
) -> None:
    """Writes the model folder, checks the model, then puts all in place.

    Tokenizer, chat template, licence and generation defaults are the base's; a base without a
    template gets the one it was trained with. `sections` go into config.json. Raises
    ModelFolderError, and then the old files are unchanged.
    """
    base, template = plan.base, plan.template
    tokenizer = base.tokenizer
    tokenizer.end_ids = template.stop_ids
    with staging(out) as scratch:
        save_model(scratch / MODEL_NAME, plan.model, weights)
        for file in base.path.iterdir():
            foreign = file.name in OWN_FILES or file.name.startswith((SCRATCH_PREFIX, "adapter"))
            if file.is_file() and not foreign:
                shutil.copyfile(file, scratch / file.name)
        if base.chat_template is None:
            (scratch / CHAT_TEMPLATE_NAME).write_text(ALPACA_CHAT_TEMPLATE, "utf-8")
        kept = ("special_tokens", "generation", "source")
        description = {name: base.description[name] for name in kept if name in base.description}
        write_json(
            scratch / CONFIG_NAME,
            describe_model(plan.model, tokenizer, base.start_ids, **description, **sections),
        )
        write_tokenizer(scratch, tokenizer)
        write_loss_picture(scratch, state.history)
        names = {file.name for file in scratch.iterdir()}
    clear_leftovers(out, names)
