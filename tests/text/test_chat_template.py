"""Chat templates: what they render, and what they may not do."""

import tracemalloc

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.text import template_limits
from minigpt_tf.text.chat_template import ChatTemplate, message

CHATML = """{% for message in messages %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""


def test_a_conversation_becomes_text():
    template = ChatTemplate(CHATML)
    messages = [message("system", "Be short."), message("user", "Hi")]
    text = "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    assert template.render(messages, add_generation_prompt=False) == text
    assert template.render(messages, add_generation_prompt=True) == text + "<|im_start|>assistant\n"


def test_a_template_knows_the_special_tokens():
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", {"bos_token": "<s>"})
    assert template.render([message("user", "a")], add_generation_prompt=True) == "<s>a"


def test_half_a_character_is_replaced():
    text = ChatTemplate(r"{{ '\ud800' }}{{ messages[0].content }}").render(
        [message("user", "\ud83d\ude00 \ude00")], add_generation_prompt=True
    )
    assert text == "\ufffd\U0001f600 \ufffd"


def test_what_transformers_adds_to_jinja():
    template = ChatTemplate(
        "{% for m in messages %}{% generation %}{{ m.content | tojson }}{% endgeneration %}"
        "{% endfor %}"
    )
    assert template.render([message("user", "é <b>")], add_generation_prompt=True) == '"é <b>"'


# Templates that do not work


LOOPS = """{% macro all() %}{% set r = range(600) | list %}
{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}{% endmacro %}{{ all() }}"""
GROWING = "{%% set ns = namespace(a=%s) %%}{%% for i in range(70) %%}%s{%% endfor %%}{{ ns.a }}"
DOUBLED = {
    "lists": ("[1]", "{% set ns.a = [ns.a, ns.a] %}"),
    "tuples": ("(1, 2)", "{% set ns.a = (ns.a, ns.a) %}"),
    "mappings": ("{}", "{% set ns.a = {'x': ns.a, 'y': ns.a} %}"),
    "namespaces": ("1", "{% set ns.a = namespace(x=ns.a, y=ns.a) %}"),
    "dict": ("1", "{% set ns.a = dict(x=ns.a, y=ns.a) %}"),
    "sums": ("'ab'", "{% set ns.a = ns.a + ns.a %}"),
    "joined": ("'ab'", "{% set ns.a = ns.a ~ ns.a %}"),
    "blocks": ("'ab'", "{% set b %}{{ ns.a }}{{ ns.a }}{% endset %}{% set ns.a = b %}"),
    "products": ("'ab'", "{% set ns.a = ns.a * 3 %}"),
    "numbers": ("9", "{% set ns.a = ns.a * ns.a %}"),
}
LONG = "{% set a = 'b' * 45000000 ~ 'a' %}{% set b = 'b' * 45000001 %}"
TOO_MUCH = [
    "{{ 7 ** (7 ** 9) }}",
    "{{ 'x'.rjust(10 ** 10) }}",
    "{{ 'x' | center(10 ** 10) }}",
    "{% filter indent(10 ** 10) %}x{% endfilter %}",
    "{{ ['x'] | map('center', 10 ** 10) | list }}",
    "{{ 'x' * 10 ** 12 }}",
    "{{ [[]] * 10 ** 12 }}",
    "{{ 'x\\ty'.expandtabs(10 ** 10) }}",
    "{{ '%12345678901d' % 5 }}",
    "{{ '%*d' % (10 ** 9, 5) }}",
    "{{ '{:12345678901}'.format(5) }}",
    "{{ '{:{}}'.format(5, '12345678901') }}",
    "{{ ('x' * 10 ** 6).replace('x', 'y' * 10 ** 6) }}",
    "{{ range(10 ** 5) | join('x' * 10 ** 6) }}",
    "{{ ('x' * 10 ** 6).join(range(10 ** 5) | map('string')) }}",
    "{{ ('x' * 10 ** 7).strip('y' * 10 ** 7) }}",
    "{{ messages | tojson(indent=10 ** 5) }}",
    "{{ messages | batch(10 ** 9, 'x') | list }}",
    "{{ 2.5 | round(10 ** 9, 'floor') }}",
    "{{ ('x' * 9 * 10 ** 7) | list }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}",
    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
    LONG + "{% if a == b %}{% endif %}" * 300,
    LONG + "{% if 'x' in a %}{% endif %}" * 300,
    LONG + "{% if a is lower %}{% endif %}" * 300,
    LONG + "{% if a.endswith('c') or a.find('c') > 0 %}{% endif %}" * 300,
    LONG + "{% if a[1:] %}{% endif %}" * 300,
    "x" * 200_001,
    *(GROWING % parts for parts in DOUBLED.values()),
]


@pytest.mark.parametrize("source", TOO_MUCH, ids=lambda source: source[:40])
def test_a_template_is_bounded_in_work_and_memory(source, monkeypatch):
    monkeypatch.setattr(template_limits, "MOST_SECONDS", 0.1)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"does too much|does not end") as caught:
            ChatTemplate(source).render([message("user", "a")], add_generation_prompt=True)
        assert tracemalloc.get_traced_memory()[1] < 500_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_long_conversations_are_no_work_worth_naming():
    messages = [message("user", "word " * 20_000), message("assistant", "\n" * 10_000)] * 10
    source = CHATML + "{{ messages | tojson(indent=2) | length }}"
    text = ChatTemplate(source).render(messages, add_generation_prompt=True)
    assert len(text) > 1_100_000


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
        (LOOPS, "loops run beyond 300,000 rounds"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "does not end: RecursionError"),
        ("{% continue %}", "'continue' not properly in loop"),
        ("{% for i in [1] %}" * 25 + "{% endfor %}" * 25, "too many statically nested blocks"),
        ("{% if 1 %}" * 110 + "{% endif %}" * 110, "too many levels of indentation"),
        ("{{" + "(" * 3000 + "1" + ")" * 3000 + "}}", "does not end"),
        ("{{ joiner.x.y }}{{ cycler() }}", "no attribute 'x'"),
        ("{{ cycler() }}", "at least one item"),
        ("{{ 2e999 }}", "'inf' is not defined"),
        ("{{ 'abcd' | truncate(2) }}", "expected length >= 3"),
        ("{{ {[]: 1} }}", "unhashable"),
        ("{{ [1, 'x'] | sort }}", "not supported between"),
        ("{{ none() }}", "not callable"),
        ("{{ lipsum(2) }}", "'lipsum' is undefined"),
        ("{{ 'x' | urlize }}", "No filter named 'urlize'"),
        ("{{ namespace(_x=1) }}", "a namespace cannot have the name '_x'"),
        ("{{ raise_exception('one\ntwo') }}", "one two$"),
    ],
)
def test_a_template_that_does_not_work_is_named(source, reason):
    with pytest.raises(DataError, match=reason) as caught:
        ChatTemplate(source).render([message("user", "a")], add_generation_prompt=True)
    assert "chat template" in str(caught.value)


def test_a_damaged_template_has_no_texts():
    with pytest.raises(DataError, match="the chat template: unexpected"):
        _ = ChatTemplate("{% for").literals
    with pytest.raises(DataError, match="the chat template: No filter"):
        _ = ChatTemplate("{{ 'a' | no }}").own_texts
