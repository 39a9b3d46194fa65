"""What the page about a text shows, as plain data: also the answer of --json."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..config import ModelConfig
from ..errors import DataError, ModelFolderError
from ..evaluation.passages import stored_corpus
from ..events import SILENT, Listener
from ..inference.folder import ModelFolder
from ..metrics import perplexity
from ..text.token_texts import TokenTexts
from .inside import Inside
from .loss_steps import loss_steps
from .nearest import CONTEXT, nearest_runs
from .page import deflated, rounded

EXACT_WEIGHTS = 4_000_000
"""Attention weights up to which a page keeps 16 bits of each, and beyond which 8."""
MOST_WEIGHTS = 48_000_000
"""More would make a page that no browser opens quickly."""

COLUMNS = 3
"""Ids whose logits are shown in the steps of the loss, beside the token that comes."""


@dataclass(frozen=True)
class Reading:
    """A text that a model reads, and perhaps continues."""

    name: str
    """Of the model."""
    config: ModelConfig
    text: str
    prompt_tokens: int
    """How many of the tokens were given; the model wrote the others."""
    texts: TokenTexts
    notices: list[str] = field(default_factory=list)


def check_length(config: ModelConfig, length: int) -> None:
    """Refuses a text whose attention is too much for a page.

    Args:
        config: The model's.
        length: Tokens T.

    Raises:
        DataError: L N T (T + 1) / 2 is more than MOST_WEIGHTS.
    """
    heads = config.num_layers * config.num_heads
    if heads * length * (length + 1) // 2 > MOST_WEIGHTS:
        most = int((2 * MOST_WEIGHTS / heads) ** 0.5)
        raise DataError(
            f"the text has {length:,} tokens, which {heads} heads look at: too much for a page; "
            f"give one of about {most:,}"
        )


def report(found: Inside, reading: Reading) -> dict[str, Any]:
    """What is shown, but for attention and passages.

    Args:
        found: What happened inside.
        reading: Which text, by which model.

    Returns:
        Plain data.
    """
    c, several = reading.config, len(found.ids) > 1
    steps, ids_shown = None, {int(i) for i in np.unique(found.lens_ids)} | set(found.ids.tolist())
    if several:
        computed = loss_steps(found.logits[:-1], found.ids[1:])
        columns = list(range(min(COLUMNS, c.vocab_size)))
        ids_shown |= set(columns)
        places = np.arange(len(found.ids) - 1), found.ids[1:]
        steps = {
            "target_ids": found.ids[1:].tolist(),
            "columns": columns,
            "logits": rounded(computed.logits[:, columns]),
            "target_logits": rounded(computed.logits[places]),
            "probabilities": rounded(computed.probabilities[:, columns]),
            "target_probabilities": rounded(computed.target_probabilities),
            "log_probabilities": rounded(computed.log_probabilities),
            "mean": computed.mean,
            "loss": computed.loss,
        }
    loss = steps["loss"] if steps else None
    return {
        "version": __version__,
        "model": {
            "name": reading.name,
            "parameters": c.parameter_count,
            "layers": c.num_layers,
            "heads": c.num_heads,
            "embed_dim": c.embed_dim,
            "vocab_size": c.vocab_size,
            "norm_first": c.has_final_norm,
        },
        "text": reading.text,
        "prompt_tokens": reading.prompt_tokens,
        "tokens": _tokens(found, reading.texts),
        "next": _likely(found, len(found.ids) - 1, reading.texts),
        "loss": loss,
        "perplexity": None if loss is None else perplexity(min(loss, 700.0)),
        "lens": {
            "ids": found.lens_ids.tolist(),
            "probabilities": rounded(found.lens_probabilities),
            "of_next": rounded(found.lens_of_next),
        },
        "texts": {i: reading.texts[i] for i in sorted(ids_shown)},
        "norms": {
            "residual": rounded(found.residual_norms),
            "attention": rounded(found.attention_norms),
            "feed_forward": rounded(found.feed_forward_norms),
        },
        "loss_steps": steps,
        "notices": reading.notices,
    }


def _tokens(found: Inside, texts: TokenTexts) -> list[dict[str, Any]]:
    """Each token: what it is, and how much the model expected it."""
    surprise, ranks = found.surprise, found.ranks
    shown = []
    for i, token_id in enumerate(found.ids.tolist()):
        token: dict[str, Any] = {"id": token_id, "text": texts[token_id]}
        token |= {"probability": None, "surprise": None, "rank": None, "alternatives": []}
        if i:
            token["probability"] = float(np.exp(-surprise[i - 1]))
            token["surprise"] = max(0.0, float(surprise[i - 1]))
            token["rank"] = int(ranks[i - 1])
            token["alternatives"] = _likely(found, i - 1, texts)
        shown.append(token)
    return shown


def _likely(found: Inside, t: int, texts: TokenTexts) -> list[dict[str, Any]]:
    """The most likely tokens after token t."""
    pairs = zip(
        found.lens_ids[-1, t].tolist(), found.lens_probabilities[-1, t].tolist(), strict=True
    )
    return [{"id": i, "text": texts[i], "probability": p} for i, p in pairs]


def attention_lists(found: Inside) -> list[Any]:
    """Attention for JSON.

    Args:
        found: What happened inside.

    Returns:
        [layer][head][query][key], each row up to its own token.
    """
    T = len(found.ids)
    return [
        [[rounded(head[q, : q + 1]) for q in range(T)] for head in layer]
        for layer in found.attention
    ]


def attention_bytes(found: Inside) -> dict[str, str]:
    """Attention for the page.

    Args:
        found: What happened inside.

    Returns:
        The triangles of all heads, row after row: "high" bytes of w * 65535 and "low" bytes; or,
        where that is too much, w * 255 as "high" alone.
    """
    T = len(found.ids)
    triangles = found.attention[:, :, *np.tril_indices(T)]
    if triangles.size > EXACT_WEIGHTS:
        return {"high": deflated(np.rint(triangles * 255).astype(np.uint8))}
    words = np.rint(triangles * 65535).astype(np.uint16)
    return {
        "high": deflated((words >> 8).astype(np.uint8)),
        "low": deflated((words & 255).astype(np.uint8)),
    }


def nearest_passages(
    folder: ModelFolder, ids: np.ndarray, listener: Listener = SILENT
) -> dict[str, Any]:
    """The passages of the model's training text that are nearest to a text.

    Args:
        folder: The model.
        ids: The text (T,).
        listener: Receives the progress, and why there are none.

    Returns:
        "nearest" and "train_tokens" for the page; nothing, where the text is unknown.
    """
    try:
        corpus = stored_corpus(folder, listener)
    except (DataError, ModelFolderError):
        if "data" in folder.description:
            listener.notice(
                f"{folder.path}: the nearest passages are left out, since its training text is not "
                "known, not there, or no longer the same"
            )
        return {}
    train_ids, decode = corpus.train_ids, folder.tokenizer.decode
    passages = []
    for run in nearest_runs(ids, train_ids, listener=listener):
        first, last = run.train_start, run.train_start + run.length
        passages.append(
            {
                "before": _spaced(decode(train_ids[max(0, first - CONTEXT) : first]), folder, 1),
                "shared": decode(train_ids[first:last]),
                "after": _spaced(decode(train_ids[last : last + CONTEXT]), folder, 0),
                "length": run.length,
                "bits": round(run.bits, 2),
                "text_start": run.text_start,
                "train_start": run.train_start,
            }
        )
    return {"nearest": passages, "train_tokens": len(train_ids)}


def _spaced(text: str, folder: ModelFolder, side: int) -> str:
    """Words are decoded without the space between two chunks."""
    tokenizer = folder.tokenizer
    words = tokenizer.kind == "word" and not getattr(tokenizer, "char_level", False)
    if not words or not text:
        return text
    return f"{text} " if side else f" {text}"


def model_name(path: Path) -> str:
    """What a model is called on a page.

    Args:
        path: Its folder.

    Returns:
        The folder's name.
    """
    return path.resolve().name
