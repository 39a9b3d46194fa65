"""A fine-tuned model as a model folder: what it takes from its base, and what it has learned."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..config import CONFIG_NAME, MODEL_NAME
from ..inference.folder import describe_model, replacing_model, write_tokenizer
from ..records.alpaca import ALPACA_CHAT_TEMPLATE
from ..storage.json_files import write_json
from ..storage.model_folder import (
    ADAPTER_NAME,
    CHAT_TEMPLATE_NAME,
    CLASSIFIER_SECTION,
    CONFUSION_NAME,
    ENGINE_NAMES,
    HEAD_NAME,
    HISTORY_NAME,
    LOSS_NAME,
    SAMPLES_NAME,
)
from ..storage.regular import lies_within
from ..storage.scratch import SCRATCH_PREFIX
from ..training.checkpoint import RunState
from ..training.history import write_history, write_loss_picture
from ..training.saving import save_model
from .plan import FineTuningPlan

OWN_FILES = {
    MODEL_NAME,
    CONFIG_NAME,
    HISTORY_NAME,
    LOSS_NAME,
    SAMPLES_NAME,
}
OWN_FILES |= {ADAPTER_NAME, HEAD_NAME, CONFUSION_NAME, *ENGINE_NAMES}
"""Files of a base that are not its license or the like."""


def save_fine_tuned(
    out: Path,
    plan: FineTuningPlan,
    weights: Mapping[str, Any],
    state: RunState,
    sections: dict[str, Any],
    write_more: Callable[[Path], None],
    late_sections: Callable[[], dict[str, Any]],
) -> None:
    """Writes the model folder, checks the model, then puts all in place.

    Tokenizer, chat template, license and generation defaults are the base's; a base without a
    template gets the one it was trained with.

    Args:
        out, plan, state: the folder to write, the run, and its history.
        weights: all weights of the model by name, arrays or datasets.
        sections: what goes into config.json beside the model.
        write_more: writes more files into the folder that it is given.
        late_sections: gives more sections of config.json, asked when all else is written.

    Raises:
        ModelFolderError: the folder cannot be written to; the old files are unchanged.
    """
    base, template = plan.base, plan.template
    tokenizer = base.tokenizer
    tokenizer.end_ids = template.stop_ids
    with replacing_model(out) as scratch:
        save_model(scratch / MODEL_NAME, plan.model, weights)
        for file in base.path.iterdir():
            own = file.name in OWN_FILES or file.name.startswith(SCRATCH_PREFIX)
            if file.is_file() and not own and lies_within(file, base.path):
                shutil.copyfile(file, scratch / file.name)
        if base.chat_template is None and CLASSIFIER_SECTION not in sections:
            (scratch / CHAT_TEMPLATE_NAME).write_text(ALPACA_CHAT_TEMPLATE, "utf-8")
        kept = ("special_tokens", "generation", "source")
        description = {name: base.description[name] for name in kept if name in base.description}
        write_tokenizer(scratch, tokenizer)
        write_history(scratch, state.history, plan.sample_prompt)
        write_loss_picture(scratch, state.history)
        write_more(scratch)
        description |= sections | late_sections()
        write_json(
            scratch / CONFIG_NAME,
            describe_model(plan.model, tokenizer, base.start_ids, **description),
        )
