"""Recall: how well a model continues passages of the text it was trained on."""

import numpy as np

from ..errors import DataError
from ..inference.engine import Engine


def recall(
    engine: Engine,
    ids: np.ndarray,
    *,
    passages: int = 50,
    prefix_length: int = 8,
    continuation_length: int = 20,
    seed: int = 0,
) -> float:
    """How much of a text a model can recite: greedy continuations of random passages of it.

    The model continues each prefix with its most likely tokens, after a mistake on its own words;
    each token is compared with the text's at that place.

    Args:
        engine: The model, such as `mg.TextGenerator.load(folder).engine`.
        ids: The text's token ids (N,).
        passages: How many random places.
        prefix_length: Tokens that the model is given.
        continuation_length: Tokens that it generates.
        seed: Of the random places.

    Returns:
        The fraction of generated tokens that are the text's, from 0 to 1.

    Raises:
        DataError: The text is shorter than one passage.

    Example:
        >>> import minigpt_tf as mg
        >>> config = mg.model_preset("shakespeare", vocab_size=5, num_layers=1, context_length=32)
        >>> engine = mg.Engine.from_model(mg.build_gpt_model(config), config)
        >>> 0 <= mg.recall(engine, np.arange(40) % 5, passages=3) <= 1
        True
    """
    length = prefix_length + continuation_length
    if len(ids) < length:
        raise DataError(f"{len(ids)} tokens are too few for a passage of {length}")
    starts = np.random.default_rng(seed).integers(0, len(ids) - length + 1, passages)
    right = 0
    for start in starts:
        passage = ids[start : start + length]
        logits = engine.prefill(passage[:prefix_length])
        for step, expected in enumerate(passage[prefix_length:], start=1):
            token_id = int(logits.argmax())
            right += token_id == expected
            if step < continuation_length:
                logits = engine.decode_step(token_id)
    return float(right / (passages * continuation_length))
