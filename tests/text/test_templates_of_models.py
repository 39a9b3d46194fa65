"""Templates in the style of many models render what transformers renders.

They are written for this test, with the tricks that the templates of those models use.
"""

import datetime
from pathlib import Path

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.text.chat_template import ChatTemplate

NAMES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
FOLDER = Path(__file__).with_name("templates_of_models")
TEMPLATES = sorted(file.stem for file in FOLDER.glob("*.jinja"))

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "wetter",
            "description": 'Das Wetter für einen Ort <jetzt> & "heute"',
            "parameters": {
                "type": "object",
                "properties": {
                    "ort": {"type": "string", "enum": ["Köln", "Bonn"]},
                    "monate": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["ort"],
            },
        },
    }
]
CALL = {"id": "abc123def", "type": "function"}
CALL |= {"function": {"name": "wetter", "arguments": {"ort": "Köln", "monate": [1, 2]}}}


def said(role, content, **more):
    return {"role": role, "content": content, **more}


USER = said("user", "  Wie ist das Wetter?\nin Köln & <Bonn>  ")
TALK = [USER, said("assistant", "\nSonnig. "), said("user", "Und morgen?")]
THOUGHT = said("assistant", "<think>\nhmm\n</think>\n\nRegen.")
CONVERSATIONS = {
    "one": [USER],
    "talk": TALK,
    "system": [said("system", "Be brief. /no_think "), *TALK],
    "answered": [*TALK, THOUGHT],
    "thought": [*TALK, said("assistant", "Regen.", reasoning_content="hmm")],
    "older name": [*TALK, said("assistant", "Regen.", thinking="hmm", tool_calls=None)],
    "tool": [
        USER,
        said("assistant", "", tool_calls=[CALL]),
        said("tool", '{"grad": 21}', name="wetter"),
        said("assistant", "21 Grad"),
    ],
    "wrong order": [said("assistant", "a"), said("assistant", "b")],
    "parts": [said("user", [{"type": "text", "text": "é"}, {"type": "image"}])],
}
VALUES = {"plain": {}, "tools": {"tools": TOOLS}}
VALUES["documents"] = {"documents": [{"title": "T", "text": "a\nb"}, {"title": "U", "text": "é"}]}
VALUES["no thoughts"] = {"enable_thinking": False, "controls": {"length": "short"}}


NOW = datetime.datetime(2026, 2, 3, 4, 5, 6).timestamp()


class Clock(datetime.datetime):
    """A time that stands still."""

    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_render_what_transformers_renders(name, monkeypatch):
    pytest.importorskip("transformers", reason="transformers is not installed")
    from transformers.utils import chat_template_utils as theirs

    monkeypatch.setattr(theirs, "datetime", Clock)
    source = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    ours, rendered = ChatTemplate(source, NAMES), 0
    for messages in CONVERSATIONS.values():
        for values in VALUES.values():
            for begins in (False, True):
                given = {"tools": None, "documents": None, **values}
                try:
                    (expected,), _ = theirs.render_jinja_template(
                        [[{k: v for k, v in m.items() if v is not None} for m in messages]],
                        chat_template=source,
                        add_generation_prompt=begins,
                        **given,
                        **NAMES,
                    )
                except Exception as error:  # of any kind
                    with pytest.raises(DataError) as caught:
                        ours.render(messages, add_generation_prompt=begins, now=NOW, **values)
                    assert " ".join(str(error).split())[:100] in str(caught.value)
                    continue
                rendered += 1
                text = ours.render(messages, add_generation_prompt=begins, now=NOW, **values)
                assert text == expected
    assert rendered > 8


def test_a_few_of_them_without_transformers():
    def text(name, messages, **values):
        source = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
        return ChatTemplate(source, NAMES).render(
            messages, add_generation_prompt=True, now=NOW, **values
        )

    assert text("numbers", TALK).startswith("3 1 1024 3.5 3 4 2.5 1 True [1, 2, 3] (1, 2) abab")
    assert "Today: 03 Feb 2026" in text("llama_3", TALK)
    assert text("scopes", TALK[1:2]).startswith("\nSonnig. 2112")
    called = text("glm", CONVERSATIONS["tool"], tools=TOOLS)
    assert "<tool_call>wetter<arg_key>ort</arg_key><arg_value>Köln</arg_value>" in called
    assert '"description": "Das Wetter für einen Ort <jetzt> & \\"heute\\""' in called
    with pytest.raises(DataError, match="the chat template: Conversation roles must alternate"):
        text("mixtral", CONVERSATIONS["wrong order"])
    assert text("thinking", CONVERSATIONS["older name"]).endswith("(hmm)[hmm]Regen.")
