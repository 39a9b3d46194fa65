"""Bytes -> text in blocks: the same as at once, wherever a block ends."""

import io

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.files import decoding
from minigpt_tf.files.decoding import decode_stream, tidy

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
    assert "".join(decode_stream(file, read, block_size)) == TEXT


def test_utf_16_without_a_mark_has_this_machines_order():
    content = TEXT.encode("utf-16")[2:]
    assert "".join(decode_stream(io.BytesIO(content), "utf-16")) == TEXT == content.decode("utf-16")


def test_the_place_of_the_damage_is_counted_from_the_start(block_size):
    content = "Zeile eins\nZeile zwei: für ".encode() + b"\xff" + " und später".encode()
    place = content.index(b"\xff")
    with pytest.raises(DataError, match=rf"is not UTF-8 \(byte {place}, line 2\)"):
        list(decode_stream(io.BytesIO(content), "utf-8", block_size))


def test_a_character_cut_off_at_the_end_is_damage(block_size):
    content = "Zeile eins und eine zweite ü".encode()[:-1]
    with pytest.raises(DataError, match=rf"byte {len(content) - 1}, line 1"):
        list(decode_stream(io.BytesIO(content), "utf-8", block_size))


def test_damage_in_the_middle_of_a_long_file_is_found():
    content = b"a line of text\n" * 200_000
    damaged = content + "Un été à la côte\n".encode("cp1252") + content
    place = len(content) + 3
    with pytest.raises(DataError, match=rf"byte {place}, line 200001\); it looks like cp1252"):
        list(decode_stream(io.BytesIO(damaged)))
    with pytest.raises(DataError, match="binary data"):
        list(decode_stream(io.BytesIO(content + b"\x00" + content)))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_line_ends_and_halves_of_characters_are_tidied_across_pieces(size):
    text = "one\r\ntwo\rthree\n\r\n\r\rab\ud800c\udc00\r"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert "".join(tidy(pieces)) == "one\ntwo\nthree\n\n\n\nab\ufffdc\ufffd\n"
