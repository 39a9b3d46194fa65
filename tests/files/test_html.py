"""HTML: what a reader of the page sees, against a parser that builds the standard's tree."""

import random

import pytest

from minigpt_tf.files.documents import read_document
from minigpt_tf.files.html_pages import text_of_html
from minigpt_tf.files.html_tokens import tokens
from minigpt_tf.files.notes import Notes


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<summary>A</summary><address>B<br>C</address><figure>D<figcaption>E", "A\nB\nC\nD\nE"),
        ("<fieldset><legend>A</legend><label>B</label><button>C</button></fieldset>D", "A\nB C\nD"),
        ("<table><caption>T<tr><th>a<td>b<tr><td>c<td>d</table>", "T\na b\nc d"),
        ("<dl><dt>a<dd>b<dt>c</dl><hgroup><h1>d</h1><p>e</hgroup>", "a\nb\nc\nd\ne"),
        ("<p>one <b>bold</b>ly <i>said</i>.<p>two", "one boldly said.\ntwo"),
        ("<pre>def f():\n    return 1\n\nx</pre>", "def f():\n    return 1\nx"),
        ("<p>a<!-- > --> b<!-->c<!--->d<!-- e", "a bcd"),
        ("a<script>if (1<2) '<p>'</script><style>p{}</style><template>t</template>b", "ab"),
        ("<title>A<b</title><textarea><p></textarea><xmp><i></xmp>", "A<b\n<p>\n<i>"),
        (
            "<p title='a>b'>c<a href=x/y>d</a>&copy;&#8364;&#x20AC;&nosuch;&#99999999;",
            "cd©€€&nosuch;\ufffd",
        ),
        ("1 < 2 & 3 > 2 <3", "1 < 2 & 3 > 2 <3"),
        ("<p hidden>a<p>b<div style='display: none'>c<div>d</div></div>e", "b\ne"),
        ("<ul><li hidden>a<ul><li>b</ul>c<li>d</ul>", "d"),
        (
            "<table><tr><td hidden>1<td>2</table><dialog>no</dialog><dialog open>yes</dialog>",
            "2\nyes",
        ),
        ("<svg><title>no</title><text>in</text></svg><svg><![CDATA[a<b]]></svg>", "in a<b"),
        ("a<svg><text>b</text><text>c</text></svg>d", "a b c d"),
        ('a<span style="color: red; display:block">b<span>c</span></span>d', "a\nbc\nd"),
        ("<b style='display:inline-block'>a</b><i style='display:blocks'>b</i>", "ab"),
        (
            "10<sup>6</sup> H<sub>2</sub>O 1<sup>st</sup> <q>hi</q> soft\xadhy&shy;phen",
            "10⁶ H₂O 1st “hi” softhyphen",
        ),
        ("<select><option>a<option>b</select><iframe>x</iframe><noscript>y</noscript>", "a\nb"),
    ],
)
def test_a_page_is_what_a_reader_sees(page, expected):
    assert text_of_html(page) == expected


def test_pages_within_a_page_are_named():
    notes = Notes()
    page = "<p>a<iframe src=x.html>old</iframe><iframe hidden src=y></iframe><iframe srcdoc='<p>'>"
    assert text_of_html(page, notes) == "a"
    assert notes.counts["page within the page"] == 2
    assert notes.names["page within the page"] == ["x.html"]


def test_what_nobody_sees_is_named():
    notes = Notes()
    page = (
        "<img src=a alt='a cat'><p hidden>secret</p><template>later</template><input value=Go>"
        "<input type=hidden value=no><ol><li>a</ol><script>x</script><noscript> </noscript>"
    )
    text_of_html(page, notes)
    assert notes.lines() == (
        "left out: 1 picture ('a cat'), 2 hidden elements ('secret', 'later'), 1 field of a form "
        "('Go'), 1 numbering of a list",
    )


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("<meta charset=windows-1251><p>Привет".encode("cp1251"), None),
        ("<meta http-equiv=x content='text/html; charset=koi8-r'><p>Привет".encode("koi8-r"), None),
        ("<?xml version='1.0' encoding='iso-8859-5'?><p>Привет".encode("iso8859-5"), None),
        ("<meta charset=koi8-r><p>Привет".encode("utf-16"), None),
        ("<meta charset=koi8-r><p>Привет".encode(), "says that it is koi8-r, but is UTF-8"),
    ],
)
def test_a_page_may_say_its_encoding(tmp_path, content, note):
    (tmp_path / "a.html").write_bytes(content)
    document = read_document(tmp_path / "a.html")
    assert document.text == "Привет"
    assert document.notes[0].startswith(note) if note else document.notes == ()


def visible_by_tree(page):
    """The letters of a page without white space, by the tree that the HTML standard builds."""
    lexbor = pytest.importorskip("selectolax.lexbor", reason="the test extra is not installed")
    gone = {"script", "style", "template", "noscript", "iframe"}
    found = []

    def walk(node):
        while node is not None:
            if node.is_text_node:
                found.append(node.text_content or "")
            elif node.tag not in gone and "hidden" not in node.attributes:
                walk(node.first_child)
            node = node.next

    root = lexbor.LexborHTMLParser(page).root
    assert root is not None
    root.unwrap_tags([])
    child = next(root.iter(include_text=True), None)
    walk(child.parent.first_child if child is not None else None)
    return "".join("".join(found).split())


PIECES = [
    "<p>",
    "</p>",
    "<div>",
    "</div>",
    "<b>",
    "</b>",
    "<li>",
    "</li>",
    "<ul>",
    "</ul>",
    "<h2>",
    "</h2>",
    "<!--c-->",
    "<!--x",
    "-->",
    "</",
    "<",
    ">",
    "&amp;",
    "&lt;",
    "<script>a<b</script>",
    "<style>s</style>",
    "<textarea>",
    "</textarea>",
    "<title>",
    "</title>",
    "<br/>",
    "<x-y>",
    "<a|href='>'>",
    "</a>",
    "<img|alt=x>",
    "<p|class='a>b'>",
    "<?pi?>",
    "<!doctype|html>",
    "<span|hidden>h</span>",
    "</x|>",
]
"""Tags and half tags, in which | stands for a space."""


@pytest.mark.parametrize("seed", range(150))
def test_the_letters_are_those_of_the_standards_tree(seed):
    chance = random.Random(seed)
    page = "<body>" + "".join(
        chance.choice(PIECES).replace("|", " ") if chance.random() < 0.5 else f"w{n} "
        for n in range(40)
    )
    assert "".join(text_of_html(page).split()) == visible_by_tree(page)


@pytest.mark.parametrize(
    "page",
    [
        "<!--" * 100_000,
        "<div>" * 100_000,
        "<a b='" * 100_000,
        "</" * 100_000,
        "<![CDATA[" * 100_000,
        "<p hidden>" * 50_000,
        "<svg>" * 100 + "<![CDATA[" * 50_000,
        "&" * 100_000,
        "<title>" * 100_000,
        "<div hidden>" + "<b>" * 50_000 + "</i>" * 50_000,
        "&#" + "9" * 100_000,
        "<a href=" * 100_000,
    ],
)
def test_a_page_costs_no_more_than_its_length(page):
    assert len(text_of_html(f"<p>begin</p>{page}").split("\n")[0]) == 5
    assert sum(1 for _ in tokens(page)) <= len(page)
