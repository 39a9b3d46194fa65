"""Records -> token ids and the mask of the tokens that are trained, by the base's chat template.

A model without a chat template gets Alpaca's (Taori et al., 2023). Prompt and answer are encoded so
that the prompt has the ids that it has alone, as when the model is asked; the answer follows, then
the token that ends it. Only these are trained, unless everything is.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..config import RecordsConfig
from ..errors import DataError
from ..inference.folder import ModelFolder
from ..storage.model_folder import CHAT_TEMPLATE_NAME
from ..text.chat_template import ChatTemplate, Message, message
from ..text.tokenizers import BaseTokenizer, BytePairTokenizer
from .kinds import (
    ConversationRecord,
    InstructionRecord,
    LabelledRecord,
    PreferenceRecord,
    Record,
    ask,
    content_of,
)
from .truncation import Part, Row, join, shorten

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request."
)
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request."
)
ALPACA_NAME = "Alpaca's template"
ALPACA_CHAT_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
    + ALPACA
    + """{% endif %}
{% for message in messages %}{% if message.role == 'user' %}


### Instruction:
{{ message.content }}

### Response:
{% elif message.role == 'assistant' %}{{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"""
)
"""The same as a chat template, for the folder of a model that was trained with it."""


@dataclass(frozen=True)
class Template:
    """How a model's prompts and answers become token ids."""

    tokenizer: BaseTokenizer
    chat: ChatTemplate | None
    """None: Alpaca's template."""
    end_id: int | None
    """What ends an answer where the chat template does not; None where there is no such token."""
    name: str = ALPACA_NAME
    """The file of the chat template, for errors and reports."""

    @classmethod
    def of(cls, folder: ModelFolder) -> "Template":
        """The template of a model folder.

        Alpaca's that was written for other programs is Alpaca's own, which knows inputs."""
        chat, name = folder.chat_template, str(folder.path / CHAT_TEMPLATE_NAME)
        if chat is None or chat.source == ALPACA_CHAT_TEMPLATE:
            chat, name = None, ALPACA_NAME
        return cls(folder.tokenizer, chat, _end_id(folder), name)

    def render_prompt(self, question: str, input: str = "") -> np.ndarray:
        """One question as int32 ids (T,), up to where the answer begins: what a model is asked."""
        return self.prompt_ids(ask(question, input))

    def prompt_ids(self, messages: Sequence[Message]) -> np.ndarray:
        """A conversation as int32 ids (T,), up to where the next answer begins.

        Raises DataError where the chat template refuses the messages.
        """
        if self.chat is not None:
            text = self._render(messages, add_generation_prompt=True)
            ids = self.tokenizer.encode(text).tolist()
        else:
            *before, text = _alpaca_texts(messages)
            ids = [i for part in self._alpaca_parts(before) for i in part.ids]
            ids += _encode_behind(self.tokenizer, before[-1] if before else "", text)
        return np.array(self._with_prefix(ids), dtype=np.int32)

    def text_ids(self, text: str) -> list[int]:
        """A text as it stands, without a template: what a classifier reads."""
        return self._with_prefix(self.tokenizer.encode(text).tolist())

    def parts(self, messages: Sequence[Message]) -> list[Part]:
        """A conversation in stretches of prompt and answer, of which the last is an answer.

        Raises DataError where the chat template refuses the messages, or where the text up to an
        answer is not how the text with the answer begins.
        """
        if self.chat is not None:
            parts = self._chat_parts(self.chat, messages)
        else:
            parts = self._alpaca_parts(_alpaca_texts(messages))
        first = parts[0]
        return [first._replace(ids=self._with_prefix(first.ids)), *parts[1:]]

    @functools.cached_property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer: those of the model, and what the chat template writes.

        A model that is trained with this template should have them as its end ids.
        """
        if self.chat is None:
            return self.tokenizer.end_ids
        question, answer = message("user", "question"), message("assistant", "answer")
        try:
            text = self._render([question, answer], add_generation_prompt=False)
        except DataError:  # it refuses what is not a conversation of its own kind
            return self.tokenizer.end_ids
        _, found, closing = text.rpartition(answer["content"])
        ids = self.tokenizer.encode(closing.strip()).tolist() if found else []
        if not ids or self.tokenizer.end_ids & set(ids) or ids[0] not in self.special_ids:
            return self.tokenizer.end_ids
        return self.tokenizer.end_ids | {ids[0]}

    @functools.cached_property
    def special_ids(self) -> dict[int, str]:
        """The tokens that stand for no text of their own, such as <|im_end|>, and how they read."""
        if not isinstance(self.tokenizer, BytePairTokenizer):
            return {}
        added = self.tokenizer.backend.get_added_tokens_decoder()
        return {i: token.content for i, token in added.items() if token.special and token.content}

    @property
    def pad_id(self) -> int:
        """What fills rows up; nothing depends on which id it is."""
        return self.end_id or 0

    def token_text(self, token_id: int) -> str:
        """How a token reads, for reports."""
        text = self.special_ids.get(token_id) or self.tokenizer.decode([token_id])
        return f"{text} ({token_id})"

    @functools.cached_property
    def _special_text(self) -> re.Pattern[str] | None:
        texts = sorted(self.special_ids.values(), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts))) if texts else None

    def check_plain(self, texts: Sequence[str]) -> None:
        """Raises DataError where a text would be read as one of the model's special tokens."""
        for text in texts if self._special_text else ():
            if found := self._special_text.search(text):
                raise DataError(f"it holds {found[0]!r}, which is a token of the model's own")

    def _render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        if self.chat is None:
            raise ValueError("there is no chat template")
        return self.chat.render(_merged(messages), add_generation_prompt=add_generation_prompt)

    def _with_prefix(self, ids: list[int]) -> list[int]:
        """The ids behind those that the model expects before every text."""
        prefix = list(self.tokenizer.prefix_ids)
        return ids if ids[: len(prefix)] == prefix else prefix + ids

    def _chat_parts(self, chat: ChatTemplate, messages: Sequence[Message]) -> list[Part]:
        whole = self._render(messages, add_generation_prompt=False)
        answers = [i for i, item in enumerate(messages) if item["role"] == "assistant"]
        parts: list[Part] = []
        place, before = 0, ""
        for i in answers:
            prompt = self._render(messages[:i], add_generation_prompt=True)
            last = i == answers[-1]
            through = whole
            if not last or i + 1 < len(messages):
                through = self._render(messages[: i + 1], add_generation_prompt=False)
            follows = len(prompt) >= place and through.startswith(prompt)
            if not follows or not whole.startswith(through):
                raise DataError(
                    f"{self.name}: writes the conversation up to answer {answers.index(i) + 1} "
                    "differently when more follows: where the answer begins cannot be told"
                )
            question, answer = prompt[place:], through[len(prompt) :]
            ids = _encode_behind(self.tokenizer, before, question)
            parts.append(Part(ids, 0))
            alone = None if before else ids
            parts.append(self._answer(question, alone, answer, messages[i]["content"], last))
            place, before = len(through), answer
        return parts

    def _answer(
        self, question: str, question_ids: list[int] | None, text: str, content: str, last: bool
    ) -> Part:
        """The ids of what a chat template writes for an answer, and how many of them are trained.

        `text` goes from behind `question` to where the next message begins.
        """
        ids = _encode_behind(self.tokenizer, question, text, question_ids)
        end = next((place for place, i in enumerate(ids) if i in self.stop_ids), None)
        if end is not None:
            return Part(ids, end + 1)
        # The template ends answers with plain text, or not at all.
        place = text.rfind(content.strip())
        body = text[: place + len(content.strip())] if place >= 0 else text.rstrip()
        ids = _encode_behind(self.tokenizer, question, body, question_ids)
        if last:
            ending = [] if self.end_id is None else [self.end_id]
            return Part(ids + ending, len(ids) + len(ending))
        rest = _encode_behind(self.tokenizer, body, text[len(body) :])
        return Part(ids + rest, len(ids))

    def _alpaca_parts(self, texts: Sequence[str]) -> list[Part]:
        """`texts`: prompt, answer, prompt, answer ..."""
        ending = [] if self.end_id is None else [self.end_id]
        parts: list[Part] = []
        for place, text in enumerate(texts):
            ids = _encode_behind(self.tokenizer, texts[place - 1] if place else "", text)
            answer = place % 2 == 1
            parts.append(Part(ids + ending, len(ids + ending)) if answer else Part(ids, 0))
        return parts


def _end_id(folder: ModelFolder) -> int | None:
    """The id that ends a text: the one the model's makers call eos_token, else the lowest."""
    tokenizer = folder.tokenizer
    tokens = folder.description.get("special_tokens")
    eos = tokens.get("eos_token") if isinstance(tokens, dict) else None
    if isinstance(eos, str) and isinstance(tokenizer, BytePairTokenizer):
        found = tokenizer.backend.token_to_id(eos)
        if found in tokenizer.end_ids:
            return found
    return min(tokenizer.end_ids, default=None)


def _encode_behind(
    tokenizer: BaseTokenizer, before: str, text: str, before_ids: list[int] | None = None
) -> list[int]:
    """The ids of `text` where it follows `before`, whose ids stay as they are alone.

    A tokenizer may write the first word of a text in another way than the same word further on; so
    the text is encoded along with what it follows, unless a token would lie across the border.
    `before_ids`: the ids of `before` alone, where they are known.
    """
    for head in (before, "\n") if before and text else ():
        alone = before_ids if head == before else None
        alone = tokenizer.encode(head).tolist() if alone is None else alone
        both = tokenizer.encode(head + text).tolist()
        if both[: len(alone)] == alone:
            return both[len(alone) :]
    return tokenizer.encode(text).tolist()


def _merged(messages: Sequence[Message]) -> list[Message]:
    """The messages with inputs in their contents, as chat templates have no place for them."""
    return [message(item["role"], content_of(item)) for item in messages]


def _alpaca_texts(messages: Sequence[Message]) -> list[str]:
    """A conversation as prompt, answer, prompt, answer, ... in Alpaca's words.

    What is asked since the last answer is one instruction; a system message takes the place of the
    introduction.
    """
    texts: list[str] = []
    system = [item["content"] for item in messages if item["role"] == "system"]
    asked: list[Message] = []
    for item in messages:
        if item["role"] == "user":
            asked.append(item)
        elif item["role"] == "assistant":
            texts += [_alpaca_prompt(asked, system, first=not texts), item["content"]]
            asked = []
    if asked:
        texts.append(_alpaca_prompt(asked, system, first=not texts))
    return texts


def _alpaca_prompt(asked: Sequence[Message], system: Sequence[str], *, first: bool) -> str:
    """The text from the last answer, or the start, to where the next answer begins."""
    inputs = [item["input"] for item in asked if "input" in item]
    introduction = "\n\n".join(system) or (ALPACA_WITH_INPUT if inputs else ALPACA)
    sections = [introduction if first else ""]
    if asked:
        sections.append("### Instruction:\n" + "\n\n".join(item["content"] for item in asked))
    if inputs:
        sections.append("### Input:\n" + "\n\n".join(inputs))
    return "\n\n".join([*sections, "### Response:\n"])


def render(
    record: Record, template: Template, context_length: int, config: RecordsConfig
) -> tuple[Row, ...]:
    """A record as rows of ids and mask: one row, or two of a preference record (chosen, rejected).

    A row has at most `context_length` + 1 ids, so that inputs and targets have `context_length`;
    that of a labelled text at most `context_length`, none of them trained. A prompt that is too
    long is shortened, the same way for both answers. Raises DataError where the record cannot be
    used: an answer that does not fit or has no tokens, a text that reads as a special token, a
    conversation that the chat template refuses.
    """
    template.check_plain(record.texts)
    prefix = len(template.tokenizer.prefix_ids)
    if isinstance(record, LabelledRecord):
        row = join([Part(template.text_ids(record.text), 0)])
        if len(row.ids) == prefix:
            raise DataError("its text has no tokens")
        return tuple(shorten([row], context_length, config.cut, prefix))
    rows = []
    for messages in _conversations(record):
        parts = template.parts(messages)
        _check_answers(messages, template.tokenizer)
        rows.append(join(parts))
    rows = shorten(rows, context_length + 1, config.cut, prefix)
    if config.train_on == "everything":
        rows = [row._replace(mask=np.arange(len(row.ids)) > 0) for row in rows]
    return tuple(rows)


def _check_answers(messages: Sequence[Message], tokenizer: BaseTokenizer) -> None:
    """Raises DataError where the tokenizer, which leaves out what it does not know, leaves all."""
    if isinstance(tokenizer, BytePairTokenizer):
        return
    answers = [item["content"] for item in messages if item["role"] == "assistant"]
    if not all(tokenizer.encode(answer).size for answer in answers):
        raise DataError("an answer of it has no tokens")


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
    raise TypeError(f"{type(record).__name__} is no conversation")
