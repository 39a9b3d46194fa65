"""Bytes -> text in blocks: the same as at once, wherever a block ends."""

import codecs
import io
import re

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.files import decoding
from minigpt_tf.files.decoding import decode_stream, decode_text, tidy
from minigpt_tf.files.notes import Notes

TEXT = "Grüße aus Köln.\nZweite Zeile: 日本語 and 😀.\n" * 3


@pytest.fixture(params=[1, 2, 3, 7, 1000])
def block_size(request, monkeypatch):
    monkeypatch.setattr(decoding, "SAMPLE", 12)  # the first block
    return request.param


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-8"),
        ("utf-32", "cp1252"),
        ("utf-16-be", "utf-16-be"),
        ("gb18030", "gb18030"),
    ],
)
def test_characters_are_whole_wherever_a_block_ends(written, read, block_size):
    file = io.BytesIO(TEXT.encode(written))
    assert "".join(decode_stream(file, read, block_size=block_size)) == TEXT


def test_utf_16_without_a_mark_has_this_machines_order():
    content = TEXT.encode("utf-16")[2:]
    assert "".join(decode_stream(io.BytesIO(content), "utf-16")) == TEXT == content.decode("utf-16")


def test_the_place_of_the_damage_is_counted_from_the_start(block_size):
    content = b"Zeile eins\nZeile zwei ist " + b"\xff" + b" und zu Ende"
    place = content.index(b"\xff")
    with pytest.raises(DataError, match=rf"is not UTF-8 \(byte {place}, line 2\)"):
        list(decode_stream(io.BytesIO(content), block_size=block_size))


def test_a_character_cut_off_at_the_end_is_damage(block_size):
    content = "Zeile eins und eine zweite ü".encode()[:-1]
    with pytest.raises(DataError, match=rf"byte {len(content) - 1}, line 1"):
        list(decode_stream(io.BytesIO(content), block_size=block_size))


def test_damage_in_the_middle_of_a_long_file_is_found():
    content = b"a line of text\n" * 200_000
    damaged = content + "Un été à la côte\n".encode("cp1252") + content
    place = len(content) + 3
    with pytest.raises(DataError, match=rf"byte {place}, line 200001\); it looks like cp1252"):
        list(decode_stream(io.BytesIO(damaged)))
    notes = Notes()
    text = "".join(decode_stream(io.BytesIO(content + b"\x00" + content), notes=notes))
    assert text.encode() == content + content
    assert notes.lines() == ("left out: 1 NUL character (line 200001)",)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_line_ends_and_halves_of_characters_are_tidied_across_pieces(size):
    text = "one\r\ntwo\rthree\n\r\n\r\rab\ud800c\udc00\r"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert "".join(tidy(pieces)) == "one\ntwo\nthree\n\n\n\nab\ufffdc\ufffd\n"


GERMAN = "Die Straße nach München ist gesperrt.\nWir öffnen um 8 Uhr, größere Gruppen später.\n"
WRITTEN = [
    (GERMAN, "cp437 cp850 cp1252 mac-roman"),
    ("L'élève a été reçu. Où êtes-vous allé cet été ? À la forêt.\n", "cp1252 cp850"),
    ("Zażółć gęślą jaźń. Książka leży na półce blisko łąki.\n", "cp1250 iso8859-2 cp852"),
    ("Příliš žluťoučký kůň úpěl ďábelské ódy.\n", "cp1250 iso8859-2 cp852"),
    ("Привет, как дела? Это обычный текст.\n", "cp1251 koi8-r cp866"),
    ("Η γρήγορη αλεπού πηδάει πάνω από το σκυλί.\n", "cp1253"),
    ("Şişli'de güneşli bir gün, çocuklar oynuyor.\n", "cp1254"),
    ("これは日本語のテキストです。東京へ行きました。\n", "shift_jis euc_jp iso2022_jp"),
    ("这是一个简体中文的测试文本，我们今天去北京。\n", "gb18030"),
    ("這是一個繁體中文的測試文本，我們今天去臺北。\n", "big5"),
    ("이것은 한국어 텍스트입니다. 오늘 서울에 갔습니다.\n", "euc_kr"),
    ("It’s “fine” – 5 € or 3 £…\n", "cp1252"),
    ("name;price\nCafé;3,50 €\n", "cp1252 cp858"),
    ("Größe: 5 µm ± 2°\n", "cp1252 cp850 cp437"),
    ("Łódź\n", "cp1250 iso8859-2"),
    ("Ein Text ohne Zeichen davor, für alle.\n", "utf-16-le utf-16-be utf-32-le"),
]


@pytest.mark.parametrize(
    ("text", "encoding"), [(text, name) for text, names in WRITTEN for name in names.split()]
)
def test_the_advice_gives_the_text_back(text, encoding):
    """Whoever follows the message has the text that was written."""
    content = text.encode(encoding)
    with pytest.raises(DataError, match="looks like ") as error:
        decode_text(content)
    advice = re.search(r"looks like (?:text in )?([\w-]+)", str(error.value))
    assert decode_text(content, advice[1]) == text


def test_lines_in_another_encoding_are_read_and_said():
    ours, foreign = "Der Käse reift.\n", "Die Tür fällt zu.\n"
    notes = Notes()
    content = 4 * ours.encode() + foreign.encode("cp1252") + ours.encode()
    assert decode_text(content, notes=notes) == 4 * ours + foreign + ours
    assert notes.lines() == ("1 line (line 5) is not UTF-8, and read as cp1252",)
    for size in (1, 7, 40):
        chunks = decode_stream(io.BytesIO(content), block_size=size)
        assert "".join(chunks) == 4 * ours + foreign + ours
    notes = Notes()
    within = "für alle Bäume und Träume im März, ".encode() + "schön".encode("cp1252")
    assert decode_text(within, notes=notes) == "für alle Bäume und Träume im März, schön"
    assert notes.lines() == ("1 line (line 1) is not UTF-8, and read as cp1252",)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_text_may_end_within_a_character(cut):
    notes = Notes()
    content = "Viele Grüße sendet die Fähre 😀".encode()[:-cut]
    assert decode_text(content, notes=notes) == "Viele Grüße sendet die Fähre "
    assert notes.lines()[0].startswith(f"left out: {4 - cut} byte")
    assert notes.lines()[0].endswith("of a character that the end cuts off")


def test_zeros_of_a_crash_are_left_out_by_line_and_zeros_of_data_are_not_text():
    notes = Notes()
    log = b"pump on\npump off\n" * 20
    assert decode_text(log + bytes(4096), notes=notes) == log.decode()
    assert notes.lines() == ("left out: 4,096 NUL characters (the first in line 41)",)
    with pytest.raises(DataError, match=r"looks like binary data, not text \(a NUL in line 3\)"):
        decode_text(b"head\nline\n" + b"ab\0" * 500)


def test_marks_of_files_that_were_joined_are_left_out():
    notes = Notes()
    content = codecs.BOM_UTF8 * 2 + b"one\n" + codecs.BOM_UTF8 + b"two"
    assert decode_text(content, notes=notes) == "one\ntwo"
    assert notes.lines() == ("left out: 2 byte order marks in the text (the first in line 1)",)


def test_utf_8_that_is_named_otherwise_is_said():
    notes = Notes()
    decode_text("größer".encode(), "cp1252", notes)
    assert notes.lines() == ("is UTF-8, as it seems, and was read as cp1252: drop --encoding",)
