"""The file that `minigpt inspect` writes: one file, no request, nothing of it can become code."""

import base64
import hashlib
import json
import re
import zlib

import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.config.presets import model_preset
from minigpt_tf.errors import DataError
from minigpt_tf.inspection import text_page
from minigpt_tf.inspection.page import SCRIPTS, deflated, html_page, rounded
from minigpt_tf.inspection.text_page import attention_bytes, check_length

HOSTILE = "</script><img src=x onerror=alert(1)><!-- \u2028 ]]>"


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_page_asks_for_nothing_and_its_script_is_named(kind):
    page = html_page(kind, HOSTILE, {"text": HOSTILE})
    assert not re.findall(
        r"(?:src|href)\s*=|@import|url\(|fetch\(|XMLHttp|WebSocket|import\(",
        page.replace("&lt;img src=x", "").replace(json.dumps(HOSTILE).replace("<", "\\u003c"), ""),
    )
    links = set(re.findall(r"https?://[^\"'\s]+", page))
    assert links == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "innerHTML" not in page and "eval(" not in page and "document.write" not in page
    (data, script) = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    assert json.loads(data) == {"text": HOSTILE}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "default-src 'none'" in page
    assert "<title>&lt;/script&gt;" in page


def inflated(text, dtype):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype)


def test_attention_is_packed_to_16_bits_or_to_8(trained_folder, monkeypatch):
    found = mg.look_inside(trained_folder, "he was an indian mathematician")
    T = len(found.ids)
    wanted = np.concatenate(
        [found.attention[layer, head, q, : q + 1] for layer, head, q in np.ndindex(2, 2, T)]
    )
    exact = attention_bytes(found)
    words = inflated(exact["high"], np.uint8) * 256.0 + inflated(exact["low"], np.uint8)
    np.testing.assert_allclose(words / 65535, wanted, atol=0.5 / 65535 + 1e-9)
    monkeypatch.setattr(text_page, "EXACT_WEIGHTS", wanted.size - 1)
    rough = attention_bytes(found)
    assert rough.keys() == {"high"}
    np.testing.assert_allclose(
        inflated(rough["high"], np.uint8) / 255, wanted, atol=0.5 / 255 + 1e-9
    )


def test_arrays_are_packed_little_endian_and_numbers_short():
    values = np.array([[1, 515]], dtype="<u2")
    assert zlib.decompress(base64.b64decode(deflated(values))) == b"\x01\x00\x03\x02"
    assert rounded(np.array([[2 / 3], [1e-12]])) == [[0.666667], [1e-12]]


def test_more_attention_than_a_page_holds_is_refused():
    config = model_preset("gpt2", context_length=1024)
    check_length(config, 800)
    with pytest.raises(DataError, match=r"1,024 tokens, which 144 heads look at: .* about 816"):
        check_length(config, 1024)
