"""Fields of requests: each is supported, without effect, or refused by name.

The declaration of a field says which; the checks, the schema in /openapi.json and the table in
docs/guide/serve.md are all made from it.
"""

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from ..errors import Refusal

MOST_STOPS, MOST_STOP_CHARACTERS = 16, 200
MOST_BIASES = 1024
MOST_MESSAGES = 4096
MOST_PROMPTS = 256
"""Bounds of what one request may give."""


class Body(BaseModel):
    """The body of a request. Fields that nobody declared are ignored, and counted by name."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    def check(self) -> list[str]:
        """Refuses what has a meaning that is not served, and integers out of range.

        Returns:
            Names of fields that were given and are unknown.

        Raises:
            Refusal: A refused field has another value than one that asks for nothing, or an integer
                is out of range.
        """
        for name, info in type(self).model_fields.items():
            value, extra = getattr(self, name), info.json_schema_extra
            assert isinstance(extra, dict)
            nothing = extra.get("enum")
            if extra["x-support"] == "refused" and isinstance(nothing, list):
                if not any(value == known and type(value) is type(known) for known in nothing):
                    message = f"{name}: unsupported: {info.description}: leave it out"
                    raise Refusal(message, code="unsupported_parameter", param=name)
            elif type(value) is int:
                _check_bounds(name, value, extra.get("minimum"), extra.get("maximum"))
        return sorted(self.model_extra or ())


def _check_bounds(name: str, value: int, lowest: Any, highest: Any) -> None:
    """Refuses an integer that is out of range; fractions are the engine's settings to check."""
    if lowest is not None and value < lowest:
        raise Refusal(f"{name}={value}: must be at least {lowest}", param=name)
    if highest is not None and value > highest:
        raise Refusal(f"{name}={value}: must be at most {highest}", param=name)


def supported(default: Any, text: str, **schema: Any) -> Any:
    """A field that does what OpenAI's does.

    Args:
        default: Its value if absent; `...`: it must be given.
        text: What it does, in a few words.
        schema: Bounds for the schema, which the settings of the engine check.

    Returns:
        The field.
    """
    return Field(default, description=text, json_schema_extra={"x-support": "supported", **schema})


def extension(default: Any, text: str, **schema: Any) -> Any:
    """A field that OpenAI's API lacks.

    Args:
        default: As for `supported`.
        text: As there.
        schema: As there.

    Returns:
        The field.
    """
    return Field(default, description=text, json_schema_extra={"x-support": "extension", **schema})


def without_effect(text: str) -> Any:
    """A field that may have any value and changes nothing here.

    Args:
        text: Why.

    Returns:
        The field.
    """
    return Field(None, description=text, json_schema_extra={"x-support": "without effect"})


def not_served(text: str, *nothing: Any) -> Any:
    """A field with a meaning that is not served: only values that ask for nothing are accepted.

    Args:
        text: Why, in a few words.
        nothing: Those values, beside null.

    Returns:
        The field.
    """
    schema: Any = {"x-support": "refused", "enum": [None, *nothing]}
    return Field(None, description=text, json_schema_extra=schema)


def support_of(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """The fields of a request, for people.

    Args:
        model: The request.

    Yields:
        Name, "supported", "extension", "without effect" or "refused", and what the field does.
    """
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra
        assert isinstance(extra, dict)
        yield info.alias or name, str(extra["x-support"]), _described(info)


def _described(info: FieldInfo) -> str:
    extra, text = info.json_schema_extra, info.description or ""
    nothing = extra.get("enum") if isinstance(extra, dict) else None
    if isinstance(nothing, list):
        accepted = ", ".join(json.dumps(value) for value in nothing if value)
        text += f" ({accepted} is accepted)" if accepted else ""
    return text


def _before(check: Callable[[Any], Any], **schema: Any) -> Any:
    """Any value, checked by a function, with the schema that says what the function accepts."""
    return Annotated[Any, BeforeValidator(check), WithJsonSchema(schema)]


def _wrong(text: str, value: Any = None) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{text}", {"text": text})


def _integer(value: Any) -> Any:
    """2.0 is an integer in JSON."""
    return int(value) if type(value) is float and value.is_integer() else value


Int = Annotated[int, BeforeValidator(_integer)]


def _stop(value: Any) -> tuple[str, ...]:
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _wrong("expected a text, or a list of texts")
    if len(texts) > MOST_STOPS:
        raise _wrong(f"has {len(texts)} texts: at most {MOST_STOPS} are looked for")
    for text in texts:
        if not 0 < len(text) <= MOST_STOP_CHARACTERS:
            raise _wrong(f"a text must have from 1 to {MOST_STOP_CHARACTERS} characters")
        require_unicode(text)
    return tuple(texts)


_TEXT: dict[str, Any] = {"type": "string"}
_STOP_TEXT = {**_TEXT, "minLength": 1, "maxLength": MOST_STOP_CHARACTERS}
Stop = _before(
    _stop,
    anyOf=[
        _STOP_TEXT,
        {"type": "array", "items": _STOP_TEXT, "maxItems": MOST_STOPS},
        {"type": "null"},
    ],
)
"""Texts before which an answer ends."""


def _bias(value: Any) -> dict[int, float]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MOST_BIASES:
        raise _wrong(f"expected an object of at most {MOST_BIASES} token ids and numbers")
    found = {}
    for name, bias in value.items():
        if not (name.isascii() and name.isdigit() and len(name) < 10):
            raise _wrong(f"{name!r:.20} is not a token id")
        if type(bias) not in (int, float) or not -100 <= bias <= 100:
            raise _wrong(f"token {name}: expected a number from -100 to 100")
        found[int(name)] = float(bias)
    return found


Bias = _before(
    _bias,
    anyOf=[
        {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]{1,9}$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
            "maxProperties": MOST_BIASES,
        },
        {"type": "null"},
    ],
)
"""Token id -> what is added to its logit."""


def require_unicode(text: str) -> str:
    """Refuses half of a surrogate pair, which no tokenizer takes.

    Args:
        text: From JSON.

    Returns:
        The same.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _wrong("contains half of a surrogate pair: send whole characters") from None
    return text


def _text(value: Any) -> Any:
    return require_unicode(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text)]
"""A text of whole characters."""


def as_text(value: Any) -> str | None:
    """The text of a message.

    Args:
        value: A text, parts of one, or None.

    Returns:
        The text; None if there is none.

    Raises:
        PydanticCustomError: It is something else, or has a part that is not text.
    """
    if value is None or isinstance(value, str):
        return value if value is None else require_unicode(value)
    if not isinstance(value, list):
        raise _wrong("expected a text, or a list of parts")
    texts = []
    for place, item in enumerate(value):
        kind = item.get("type") if isinstance(item, dict) else None
        if kind not in TEXT_PARTS:
            raise _wrong(f"part {place} is {kind!r:.40}: the models here read text alone")
        text = item.get("text", item.get("refusal"))
        if not isinstance(text, str):
            raise _wrong(f"part {place} has no text")
        texts.append(require_unicode(text))
    return "".join(texts)


TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
"""Types of the parts of a message that are text, in OpenAI's two APIs."""

_ITEM = {
    "type": "object",
    "properties": {"type": {"enum": list(TEXT_PARTS[:3])}, "text": _TEXT},
    "required": ["type", "text"],
}
CONTENT: list[dict[str, Any]] = [_TEXT, {"type": "array", "items": _ITEM}]
"""The schema of what a message says."""
Content = _before(as_text, anyOf=[*CONTENT, {"type": "null"}])
"""What a message says."""


def _prompts(value: Any) -> list[str | list[int]]:
    """One text, several, one list of token ids, or several."""
    if value is None or isinstance(value, str):
        return [require_unicode(value or "")]
    if not isinstance(value, list) or not value:
        raise _wrong("expected a text, a list of texts, or token ids")
    value = [_integer(item) for item in value]
    if all(type(item) is int for item in value):
        return [value]
    if len(value) > MOST_PROMPTS:
        raise _wrong(f"has {len(value)} prompts: at most {MOST_PROMPTS} are answered")
    if all(isinstance(item, str) for item in value):
        return [require_unicode(item) for item in value]
    lists = [[_integer(i) for i in item] for item in value if isinstance(item, list) and item]
    if len(lists) == len(value) and all(type(i) is int for item in lists for i in item):
        return list(lists)
    raise _wrong("expected a text, a list of texts, token ids, or lists of token ids")


_IDS: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
Prompts = _before(
    _prompts,
    anyOf=[
        _TEXT,
        {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MOST_PROMPTS},
        _IDS,
        {"type": "array", "items": _IDS, "minItems": 1, "maxItems": MOST_PROMPTS},
        {"type": "null"},
    ],
)
"""What is continued."""


def _texts(value: Any) -> list[str]:
    """One text, or several."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not 0 < len(texts) <= MOST_PROMPTS:
        raise _wrong(f"expected a text, or a list of 1 to {MOST_PROMPTS} texts")
    if not all(isinstance(text, str) and text for text in texts):
        raise _wrong("expected texts with at least one character")
    return [require_unicode(text) for text in texts]


_NOT_EMPTY = {**_TEXT, "minLength": 1}
Texts = _before(
    _texts,
    anyOf=[
        _NOT_EMPTY,
        {"type": "array", "items": _NOT_EMPTY, "minItems": 1, "maxItems": MOST_PROMPTS},
    ],
)
"""What gets labels."""
