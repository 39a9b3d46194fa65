"""Conversations -> token ids and the mask of the tokens that are trained, by the chat template.

A model without a chat template gets Alpaca's. Prompt and answer are encoded so that the prompt has
the ids that it has alone, as when the model is asked; the answer follows, then the token that ends
it. Only these are trained.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..inference.folder import ModelFolder
from ..storage.model_folder import CHAT_TEMPLATE_NAME
from ..text.chat_template import ChatTemplate, Message, message
from ..text.tokenizers import BaseTokenizer, BytePairTokenizer
from ..text.turn_tokens import turn_tokens
from ..text.turns import Written, encode_text, tokenizer_of_text, write_turns
from .alpaca import ALPACA_CHAT_TEMPLATE, ALPACA_NAME, Turn, alpaca_turns
from .schema import ask, content_of
from .truncation import Row


@dataclass(frozen=True)
class Template:
    """How a model's prompts and answers become token ids."""

    tokenizer: BaseTokenizer
    chat: ChatTemplate | None
    """None: Alpaca's template."""
    end_id: int | None
    """What ends an answer where the chat template does not; None if absent."""
    name: str = ALPACA_NAME
    """The file of the chat template, for errors and reports."""

    @classmethod
    def of(cls, folder: ModelFolder) -> "Template":
        """The template of a model.

        Args:
            folder: The model's folder. Alpaca's template that was written there for other programs
                is Alpaca's own, which knows inputs.

        Returns:
            Its chat template, else Alpaca's.
        """
        chat, name = folder.chat_template, str(folder.path / CHAT_TEMPLATE_NAME)
        if chat is None or chat.source == ALPACA_CHAT_TEMPLATE:
            chat, name = None, ALPACA_NAME
        return cls(folder.tokenizer, chat, _end_id(folder), name)

    def render_prompt(self, question: str, input: str = "") -> np.ndarray:
        """What a model is asked.

        Args:
            question: The question.
            input: What it is about.

        Returns:
            Int32 ids (T,), up to where the answer begins.

        Raises:
            DataError: The chat template refuses the question.
        """
        return self.prompt_ids(ask(question, input))

    def prompt_ids(self, messages: Sequence[Message]) -> np.ndarray:
        """A conversation that an answer is to continue.

        Args:
            messages: The conversation.

        Returns:
            Int32 ids (T,), up to where the next answer begins.

        Raises:
            DataError: The chat template refuses the messages.
        """
        if self.chat is not None:
            ids = self._write(messages, add_generation_prompt=True).ids.tolist()
        else:
            turns, question = alpaca_turns(messages)
            tokenizer = self._text_tokenizer([*turns, Turn(question, "", "")])
            ids, _ = self._encode_turns(turns, tokenizer)
            ids += encode_after(tokenizer, turns[-1].answer if turns else "", question)
        return np.array(self._with_prefix(ids), dtype=np.int32)

    def text_ids(self, text: str) -> list[int]:
        """A text without a template: what a classifier reads.

        Args:
            text: The text.

        Returns:
            Its ids, behind those that the model expects before every text.
        """
        return self._with_prefix(encode_text(self.tokenizer, text).tolist())

    def encode(self, messages: Sequence[Message]) -> Row:
        """A conversation to train on, up to the end of its last answer.

        Args:
            messages: The conversation; at least one is an answer.

        Returns:
            Its ids, and the mask, which is on the answers and what ends them.

        Raises:
            DataError: The chat template refuses the messages, or the text up to an answer is not
                how the text with the answer begins.
        """
        if self.chat is None:
            turns, _ = alpaca_turns(messages)
            tokenizer = self._text_tokenizer(turns)
        else:
            turns, tokenizer = self._chat_turns(messages)
        text_ids, text_mask = self._encode_turns(turns, tokenizer)
        ids = np.array(self._with_prefix(text_ids), dtype=np.int32)
        mask = np.array([False] * (len(ids) - len(text_ids)) + text_mask)
        end = int(np.flatnonzero(mask)[-1]) + 1 if mask.any() else len(ids)
        return Row(ids[:end], mask[:end])

    @functools.cached_property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer: those of the model, and what the chat template writes.

        A model that is trained with this template should have them as its end ids.
        """
        if self.chat is None:
            return self.tokenizer.end_ids
        question, answer = message("user", "question"), message("assistant", "answer")
        try:
            text = self._write([question, answer], add_generation_prompt=False).text
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

    def spelled(self, texts: Sequence[str]) -> list[str]:
        """Special tokens that are spelled in texts; they stay text.

        Args:
            texts: The texts of a record or a question.

        Returns:
            The tokens, each once.
        """
        pattern = turn_tokens(self.chat, self.tokenizer).pattern
        return list(dict.fromkeys(token for text in texts for token in pattern.findall(text)))

    def _write(
        self, messages: Sequence[Message], *, add_generation_prompt: bool, respell: bool = False
    ) -> Written:
        if self.chat is None:
            raise ValueError("there is no chat template")
        return write_turns(
            self.chat,
            _merged(messages),
            self.tokenizer,
            add_generation_prompt=add_generation_prompt,
            respell=respell,
        )

    def _text_tokenizer(self, turns: Sequence[Turn]) -> BaseTokenizer:
        """What encodes turns in Alpaca's words, which have no special token of their own."""
        text = "".join(turn.prompt + turn.answer for turn in turns)
        return tokenizer_of_text(self.tokenizer, text)

    def _with_prefix(self, ids: list[int]) -> list[int]:
        """The ids behind those that the model expects before every text."""
        prefix = list(self.tokenizer.prefix_ids)
        return ids if ids[: len(prefix)] == prefix else prefix + ids

    def _chat_turns(self, messages: Sequence[Message]) -> tuple[list[Turn], BaseTokenizer]:
        """The conversation as the chat template writes it, taken apart at its answers; and what
        encodes it."""
        written = self._write(messages, add_generation_prompt=False)
        whole, respell = written.source, written.tokenizer is not self.tokenizer
        answers = [i for i, item in enumerate(messages) if item["role"] == "assistant"]
        turns: list[Turn] = []
        place = 0
        for i in answers:
            asked, said = messages[:i], messages[: i + 1]
            prompt = self._write(asked, add_generation_prompt=True, respell=respell).source
            through = whole
            if i + 1 < len(messages):
                through = self._write(said, add_generation_prompt=False, respell=respell).source
            follows = len(prompt) >= place and through.startswith(prompt)
            if not follows or not whole.startswith(through):
                raise DataError(
                    f"{self.name}: writes the conversation up to answer {len(turns) + 1} "
                    "differently when more follows: it does not show where the answer begins"
                )
            turns.append(Turn(prompt[place:], through[len(prompt) :], messages[i]["content"]))
            place = len(through)
        return turns, written.tokenizer

    def _encode_turns(
        self, turns: Sequence[Turn], tokenizer: BaseTokenizer
    ) -> tuple[list[int], list[bool]]:
        """Ids and mask of turns that follow each other."""
        ids: list[int] = []
        mask: list[bool] = []
        before = ""
        for turn in turns:
            prompt = encode_after(tokenizer, before, turn.prompt)
            alone = None if before else prompt
            answer, trained = self._encode_answer(turn, tokenizer, alone, last=turn is turns[-1])
            ids += prompt + answer
            mask += [False] * len(prompt) + [True] * trained + [False] * (len(answer) - trained)
            before = turn.answer
        return ids, mask

    def _encode_answer(
        self, turn: Turn, tokenizer: BaseTokenizer, prompt_ids: list[int] | None, *, last: bool
    ) -> tuple[list[int], int]:
        """The ids of a turn's answer, and how many of them, from the first, are trained.

        `prompt_ids`: those of the prompt alone, where they are known.
        """
        ending = [] if self.end_id is None else [self.end_id]
        ids = encode_after(tokenizer, turn.prompt, turn.answer, prompt_ids)
        if self.chat is None:
            return ids + ending, len(ids + ending)
        end = next((place for place, i in enumerate(ids) if i in self.stop_ids), None)
        if end is not None:
            return ids, end + 1
        # The template ends answers with plain text, or not at all.
        text, content = turn.answer, turn.content.strip()
        place = text.rfind(content)
        body = text[: place + len(content)] if place >= 0 else text.rstrip()
        ids = encode_after(tokenizer, turn.prompt, body, prompt_ids)
        if last:
            return ids + ending, len(ids + ending)
        return ids + encode_after(tokenizer, body, text[len(body) :]), len(ids)


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


def encode_after(
    tokenizer: BaseTokenizer, before: str, text: str, before_ids: list[int] | None = None
) -> list[int]:
    """The ids of a text that follows another one, whose ids stay as they are alone.

    A tokenizer may write the first word of a text in another way than the same word further on; so
    the text is encoded along with what it follows, unless a token would lie across the border.

    Args:
        tokenizer: Encodes both.
        before: What the text follows.
        text: The text.
        before_ids: The ids of `before` alone, if known.

    Returns:
        The ids of `text`.
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
