"""Chat templates: what they render, and what they may not do."""

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.text.chat_template import ChatTemplate, message

CHATML = """{% for message in messages %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""


NESTED = """{% macro all() %}{% set r = range(3000) | list %}
{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}{% endmacro %}{{ all() }}"""


def test_a_conversation_becomes_text():
    template = ChatTemplate(CHATML)
    messages = [message("system", "Be short."), message("user", "Hi")]
    text = "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    assert template.render(messages, add_generation_prompt=False) == text
    assert template.render(messages, add_generation_prompt=True) == text + "<|im_start|>assistant\n"


def test_a_template_knows_the_special_tokens():
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", {"bos_token": "<s>"})
    assert template.render([message("user", "a")], add_generation_prompt=True) == "<s>a"


def test_what_transformers_adds_to_jinja():
    template = ChatTemplate(
        "{% for m in messages %}{% generation %}{{ m.content | tojson }}{% endgeneration %}"
        "{% endfor %}"
    )
    assert template.render([message("user", "é <b>")], add_generation_prompt=True) == '"é <b>"'


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('only one turn') }}", "only one turn"),
        ("{% for %}", "Expected an expression"),
        ("{{ messages[0].nothing.more }}", "has no attribute 'nothing'"),
        ("{{ 1 / 0 }}", "damaged: division by zero"),
        ("{{ messages + 1 }}", "damaged"),
        ("{{ ''.__class__.__mro__ }}", "is unsafe"),
        ("{{ messages.append(1) }}", "is not safely callable|unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "unsafe"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        (NESTED, "loops run beyond 1,000,000 rounds"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "does not end: RecursionError"),
    ],
)
def test_a_template_that_does_not_work_is_named(source, reason):
    with pytest.raises(DataError, match=reason) as caught:
        ChatTemplate(source).render([message("user", "a")], add_generation_prompt=True)
    assert "chat template" in str(caught.value)
