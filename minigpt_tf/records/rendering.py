"""A record -> rows of token ids and loss mask, in one pass: conversation, ids, truncation.

`Template.encode` gives ids and mask together; here they are made to fit, and `batches.collate` puts
them side by side.
"""

from collections.abc import Sequence

import numpy as np

from ..config import RecordsConfig
from ..errors import DataError
from ..text.chat_template import Message, message
from ..text.tokenizers import BaseTokenizer, BytePairTokenizer
from .prompts import Template
from .schema import (
    ConversationRecord,
    InstructionRecord,
    LabeledRecord,
    PreferenceRecord,
    Record,
)
from .truncation import Row, truncate


def render(
    record: Record, template: Template, context_length: int, config: RecordsConfig
) -> tuple[Row, ...]:
    """A record as rows of ids and mask.

    Only answers are trained, each with the token that ends it, unless `config.train_on` is
    everything. A prompt that is too long is truncated, the same way for both answers of a
    preference record.

    Args:
        record: What is rendered.
        template: Writes conversations for the model, and encodes them.
        context_length: A row has one id more, so that inputs and targets have so many; that of a
            labeled text has no more, none of them trained.
        config: How prompts are truncated, and what is trained.

    Returns:
        One row; two of a preference record: chosen, rejected.

    Raises:
        DataError: The record cannot be used: an answer that does not fit or has no tokens, a
            conversation that the chat template refuses.

    Example:
        A conversation of two turns; `*` marks what is trained.

        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from minigpt_tf.config import RecordsConfig
        >>> from minigpt_tf.records.batches import collate
        >>> from minigpt_tf.records.prompts import Template
        >>> from minigpt_tf.records.rendering import render
        >>> from minigpt_tf.records.schema import ConversationRecord
        >>> from minigpt_tf.text.chat_template import ChatTemplate, message
        >>> from minigpt_tf.text.tokenizers import ImportedTokenizer
        >>> words = "<end> user: assistant: what is it blue and now red".split()
        >>> backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
        >>> backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        >>> _ = backend.add_special_tokens(["<end>"])
        >>> tokenizer = ImportedTokenizer(backend, [0], [])
        >>> chat = ChatTemplate(
        ...     "{% for m in messages %}{{ m.role }}: {{ m.content }}<end> {% endfor %}"
        ...     "{% if add_generation_prompt %}assistant: {% endif %}"
        ... )
        >>> record = ConversationRecord(
        ...     1,
        ...     (
        ...         message("user", "what is it"),
        ...         message("assistant", "it is blue"),
        ...         message("user", "and now"),
        ...         message("assistant", "red"),
        ...     ),
        ... )
        >>> template = Template(tokenizer, chat, end_id=0)
        >>> (row,) = render(record, template, 100, RecordsConfig())
        >>> for i, trained in zip(row.ids, row.mask):
        ...     print(f"{i:3}  {words[i]}{' *' if trained else ''}")
          1  user:
          3  what
          4  is
          5  it
          0  <end>
          2  assistant:
          5  it *
          4  is *
          6  blue *
          0  <end> *
          1  user:
          7  and
          8  now
          0  <end>
          2  assistant:
          9  red *
          0  <end> *

        In a context of 13 the longer prompt is truncated; in a batch, targets are one step later.

        >>> (row,) = render(record, template, 13, RecordsConfig())
        >>> x, y, mask = collate([row], multiple=1, pad_id=0, longest=13)
        >>> for name, values in [("x", x), ("y", y), ("mask", mask.astype(int))]:
        ...     print(f"{name:4}", *values[0])
        x    1 3 0 2 5 4 6 0 1 7 0 2 9
        y    3 0 2 5 4 6 0 1 7 0 2 9 0
        mask 0 0 0 1 1 1 1 0 0 0 0 1 1
        >>> row.dropped
        3
    """
    prefix = len(template.tokenizer.prefix_ids)
    if isinstance(record, LabeledRecord):
        ids = np.array(template.text_ids(record.text), dtype=np.int32)
        if len(ids) == prefix:
            raise DataError("its text has no tokens")
        row = Row(ids, np.zeros(len(ids), dtype=bool))
        return tuple(truncate([row], context_length, config.truncation, prefix))
    rows = []
    for messages in _conversations(record):
        rows.append(template.encode(messages))
        _check_answers(messages, template.tokenizer)
    rows = truncate(rows, context_length + 1, config.truncation, prefix)
    if config.train_on == "everything":
        rows = [row._replace(mask=np.arange(len(row.ids)) > 0) for row in rows]
    return tuple(rows)


def _conversations(record: Record) -> list[list[Message]]:
    """The conversations that a record trains: one, or one for each answer of a preference."""
    if isinstance(record, PreferenceRecord):
        return [
            [*record.question, message("assistant", answer)]
            for answer in (record.chosen, record.rejected)
        ]
    if isinstance(record, InstructionRecord):
        return [[*record.question, message("assistant", record.output)]]
    if isinstance(record, ConversationRecord):
        return [list(record.messages)]
    raise TypeError(f"{type(record).__name__} is not a conversation")


def _check_answers(messages: Sequence[Message], tokenizer: BaseTokenizer) -> None:
    """Raises DataError where the tokenizer, which leaves out what it does not know, leaves all."""
    if isinstance(tokenizer, BytePairTokenizer):
        return
    answers = [item["content"] for item in messages if item["role"] == "assistant"]
    if not all(tokenizer.encode(answer).size for answer in answers):
        raise DataError("an answer of it has no tokens")
