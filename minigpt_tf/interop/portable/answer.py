"""A GPT in plain Python: reads model.bin, which lies beside it in the same file.

    python model.pyz "who is ..."

Nothing needs to be installed. With NumPy, where it is there, products are a hundred times as fast.
`model.c` of `minigpt export --format c` is the same program with more comments.
"""

import argparse
import math
import operator
import random
import sys
import unicodedata
import zipfile
from array import array
from itertools import pairwise
from typing import Any

numpy: Any
try:
    import numpy
except ImportError:
    numpy = None

BLOCK = 32


def fail(what):
    """Ends the program: what is wrong, in a line."""
    print(f"model: {what}", file=sys.stderr)
    sys.exit(2)


class File:
    """model.bin: settings by name, and arrays."""

    def __init__(self, content):
        if content[:6] != b"MGPT1\n":
            fail("this is not what minigpt export --format bundle writes")
        end = content.index(b"\n\n")
        start = (end + 2 + 63) // 64 * 64
        lines = content[6:end].decode().split("\n")
        self.settings, self.places = {}, {}
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "array":
                path, kind, rows, columns, offset = value.split(" ")
                self.places[path] = kind, int(rows), int(columns), start + int(offset)
            else:
                self.settings[name] = value
        self.content = memoryview(content)

    def number(self, name):
        return float(self.settings[name])

    def values(self, name, code):
        """All values of an array; none where the file lacks it."""
        if name not in self.places:
            return []
        kind, rows, columns, offset = self.places[name]
        width = -(-columns // BLOCK) * BLOCK if kind == "q8" else columns
        size = rows * width * (1 if kind in ("q8", "u8") else 4)
        part = self.content[offset : offset + size]
        if sys.byteorder == "big" and size != rows * width:
            copied = array(code, part.tobytes())
            copied.byteswap()
            return memoryview(copied)
        return part.cast(code)

    def ids(self, name):
        return list(self.values(name, "i"))

    def table(self, name):
        """The rows of a table of integers."""
        columns = self.places[name][2] if name in self.places else 1
        flat = self.ids(name)
        return [tuple(flat[i : i + columns]) for i in range(0, len(flat), columns)]


class Matrix:
    """A matrix of the file, (outputs, inputs), and its products."""

    def __init__(self, file, name):
        self.kind, self.rows, self.columns, _ = file.places[name]
        values = file.values(name, "b" if self.kind == "q8" else "f")
        factors = file.values(name + "/factors", "f")
        self.dense: Any = None
        if numpy:
            self.dense = numpy.frombuffer(values, values.format).reshape(self.rows, -1)
            if self.kind == "q8":
                blocks = self.dense.reshape(self.rows, -1, BLOCK).astype(numpy.float32)
                blocks *= numpy.frombuffer(factors, numpy.float32).reshape(self.rows, -1, 1)
                self.dense = blocks.reshape(self.rows, -1)[:, : self.columns]
            return
        self.lists = []
        width = -(-self.columns // BLOCK) * BLOCK if self.kind == "q8" else self.columns
        for row in range(self.rows):
            part = values[row * width : row * width + self.columns]
            if self.kind == "q8":
                scale = factors[row * (width // BLOCK) : (row + 1) * (width // BLOCK)]
                part = array("f", (q * scale[i // BLOCK] for i, q in enumerate(part)))
            self.lists.append(part)

    def row(self, number):
        return self.dense[number].tolist() if numpy else list(self.lists[number])

    def times(self, x):
        if numpy:
            return (self.dense @ numpy.array(x, numpy.float32)).tolist()
        return [sum(map(operator.mul, row, x)) for row in self.lists]


class Dense:
    """kernel x + bias."""

    def __init__(self, file, path):
        self.kernel = Matrix(file, path + "/kernel")
        self.bias = list(file.values(path + "/bias", "f"))

    def __call__(self, x):
        out = self.kernel.times(x)
        return list(map(operator.add, out, self.bias)) if self.bias else out


class Norm:
    """Layer normalization, or without its mean the RMS norm."""

    def __init__(self, file, path, of_heads=False):
        self.scale = list(file.values(path + "/gamma", "f") or file.values(path + "/scale", "f"))
        self.shift = list(file.values(path + "/beta", "f"))
        self.centered = file.settings["norm"] == "layer" and not of_heads
        self.epsilon = file.number("norm_epsilon")

    def __bool__(self):
        return bool(self.scale)

    def __call__(self, x):
        mean = sum(x) / len(x) if self.centered else 0.0
        factor = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + self.epsilon)
        out = [(v - mean) * factor * s for v, s in zip(x, self.scale, strict=True)]
        return list(map(operator.add, out, self.shift)) if self.shift else out

    def of_heads(self, heads):
        """Of each head, or of all together."""
        width = len(self.scale) or len(heads)
        parts = (heads[i : i + width] for i in range(0, len(heads), width))
        return [v for part in parts for v in self(part)] if self else heads


ACTIVATIONS = {
    "silu": lambda x: x / (1 + math.exp(-max(x, -87.0))),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x * math.sqrt(0.5))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    "relu2": lambda x: max(x, 0.0) ** 2,
    "relu": lambda x: max(x, 0.0),
}


class Layer:
    """A block: attention and feed-forward, and the keys and values so far."""

    def __init__(self, model, number):
        file, block = model.file, f"block_{number}/"
        self.model, self.kind = model, file.settings["layer_kinds"][number]
        names = ("query", "key", "value", "attention_output")
        self.q, self.k, self.v, self.out = (Dense(file, f"{block}attention/{n}") for n in names)
        self.q_norm = Norm(file, block + "attention/query_norm", of_heads=True)
        self.k_norm = Norm(file, block + "attention/key_norm", of_heads=True)
        self.gate = Dense(file, block + "feed_forward_gate") if model.gated else None
        self.up, self.down = (Dense(file, f"{block}feed_forward_{n}") for n in ("up", "down"))
        self.norms = {
            name: (Norm(file, f"{block}{name}_norm"), Norm(file, f"{block}{name}_output_norm"))
            for name in ("attention", "feed_forward")
        }
        self.keys, self.values = [], []

    def attend(self, x, position):
        m = self.model
        q, k = self.q_norm.of_heads(self.q(x)), self.k_norm.of_heads(self.k(x))
        frequencies = m.local if self.kind == "L" and m.local else m.frequencies
        if frequencies and self.kind != "N":
            q, k = (rotated(heads, m.H, position, frequencies) for heads in (q, k))
        del self.keys[position:], self.values[position:]  # of a text that begins anew
        self.keys.append(split(k, m.H))
        self.values.append(split(self.v(x), m.H))
        first = max(0, position + 1 - m.window) if self.kind == "L" else 0
        mixed = []
        for head, query in enumerate(split(q, m.H)):
            shared = head // (m.N // m.K)
            keys = [key[shared] for key in self.keys[first:]]
            scores = [sum(map(operator.mul, query, key)) / math.sqrt(m.H) for key in keys]
            if m.softcap:
                scores = [m.softcap * math.tanh(score / m.softcap) for score in scores]
            weights = softmax(scores)
            columns = zip(*(value[shared] for value in self.values[first:]), strict=True)
            mixed += [sum(map(operator.mul, weights, column)) for column in columns]
        return self.out(mixed)

    def feed_forward(self, x, _position):
        activate, up = self.model.activate, self.up(x)
        if self.gate is None:
            return self.down(list(map(activate, up)))
        return self.down(list(map(operator.mul, up, map(activate, self.gate(x)))))

    def __call__(self, x, position):
        for name, sublayer in (("attention", self.attend), ("feed_forward", self.feed_forward)):
            norm, behind = self.norms[name]
            before = norm and not self.model.after
            update = sublayer(norm(x) if before else x, position)
            x = list(map(operator.add, x, behind(update) if behind else update))
            x = norm(x) if self.model.after else x
        return x


def split(heads, size):
    return [heads[i : i + size] for i in range(0, len(heads), size)]


def rotated(heads, size, position, frequencies):
    """Each head's first half is rotated with its second half."""
    out = []
    angles = [position * high + position * low for high, low in frequencies]
    for head in split(heads, size):
        pairs = list(zip(head[: size // 2], head[size // 2 :], angles, strict=True))
        out += [a * math.cos(angle) - b * math.sin(angle) for a, b, angle in pairs]
        out += [b * math.cos(angle) + a * math.sin(angle) for a, b, angle in pairs]
    return out


def softmax(scores):
    most = max(scores)
    powers = [math.exp(score - most) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


class Model:
    """Token ids -> logits of the next token."""

    def __init__(self, file):
        self.file, number = file, file.number
        self.N, self.K, self.H = (int(number(n)) for n in ("num_heads", "num_kv_heads", "head_dim"))
        self.context, self.window = int(number("context_length")), int(number("window"))
        self.after = file.settings["norm_placement"] == "after"
        self.gated, self.activate = number("gated"), ACTIVATIONS[file.settings["activation"]]
        self.softcap, self.logits_cap = number("attention_softcap"), number("logits_softcap")
        self.scale = number("embedding_scale")
        pairs = (file.values(name, "f") for name in ("rotary", "rotary_local"))
        self.frequencies, self.local = (list(zip(p[0::2], p[1::2], strict=True)) for p in pairs)
        self.embedding = Matrix(file, "token_embedding/embeddings")
        self.positions = file.values("position_encoding/embeddings", "f")
        self.final_norm = Norm(file, "final_norm")
        self.head = Dense(file, "logits") if "logits/kernel" in file.places else None
        self.layers = [Layer(self, i) for i in range(int(number("num_layers")))]

    def forward(self, token, position, wanted=True):
        x = [v * self.scale for v in self.embedding.row(token)]
        if len(self.positions):
            start = position * len(x)
            x = list(map(operator.add, x, self.positions[start : start + len(x)]))
        for layer in self.layers:
            x = layer(x, position)
        if not wanted:
            return []
        x = self.final_norm(x) if self.final_norm else x
        logits = self.head(x) if self.head else self.embedding.times(x)
        cap = self.logits_cap
        return [cap * math.tanh(v / cap) for v in logits] if cap else logits


class Tokens:
    """Text <-> token ids."""

    def __init__(self, file):
        self.file, self.kind = file, file.settings["tokenizer"]
        starts, texts = file.ids("token_starts"), bytes(file.values("token_texts", "B"))
        self.texts = [texts[a:b] for a, b in pairwise(starts)]
        self.lower = dict(file.table("lower"))
        self.characters = dict(file.table("characters"))
        self.separators = {row[0] for row in file.table("separators")}
        self.whole = {self.texts[i]: i for i in file.ids("order")}
        self.special = [(self.texts[i], i) for i in file.ids("special")]
        self.bytes = file.ids("byte_ids")
        self.ranks = {(a, b): (rank, made) for a, b, rank, made in file.table("merges")}
        self.unknown = int(file.settings.get("unknown_id", -1))

    def encode(self, text, message=False):
        """A text as ids; tokens that stand whole in texts are looked for, but not in a message."""
        content, ids, start, at = text.encode("utf-8", "replace"), [], 0, 0
        while at < len(content) and not message:
            found = next((s for s in self.special if content.startswith(s[0], at)), None)
            if found is None:
                at += 1
                continue
            ids += [*self._plain(content[start:at]), found[1]]
            start = at = at + len(found[0])
        return ids + self._plain(content[start:])

    def _plain(self, content):
        text = content.decode("utf-8", "replace")
        if not text:
            return []
        if self.kind == "bytes":
            return [i for word in self._cut(text) for i in self._word(word.encode())]
        pieces = self.kind == "pieces"
        if pieces:
            text = (" " * int(self.file.number("space_prefix")) + text).replace(" ", "\u2581")
        codes = [self.lower.get(code, code) for code in map(ord, text)]
        if self.kind == "word":
            words = "".join(" " if code in self.separators else chr(code) for code in codes).split(
                " "
            )
            found = [self.whole.get(word.encode(), self.unknown) for word in words if word]
            return [i for i in found if i >= 0]
        ids = []
        for code in codes:
            if code in self.characters:
                ids.append(self.characters[code])
            elif pieces:
                ids += [self.bytes[byte] for byte in chr(code).encode()]
            elif self.unknown >= 0:
                ids.append(self.unknown)
        return self._merged(ids) if pieces else ids

    def _word(self, word):
        if self.whole and word in self.whole:
            return [self.whole[word]]
        return self._merged([self.bytes[byte] for byte in word])

    def _merged(self, ids):
        while True:
            pairs = enumerate(pairwise(ids))
            found = [(*self.ranks[pair], i) for i, pair in pairs if pair in self.ranks]
            if not found:
                return ids
            _, made, place = min(found)
            ids[place : place + 2] = [made]

    def _cut(self, text):
        """The words of a text, by GPT-2's pattern or tiktoken's."""
        parts = [text]
        if self.file.number("digits_alone"):
            parts, last = [], ""
            for character in text:
                number = _class(character) == "N"
                if number or not parts or last == "N":
                    parts.append("")
                parts[-1] += character
                last = "N" if number else ""
        for part in parts:
            kinds = [_class(character) for character in part]
            at = 0
            while at < len(part):
                size = self._length(part[at:], kinds[at:])
                yield part[at : at + size]
                at += size

    def _length(self, text, kinds):
        tiktoken, digits = self.file.settings["cut"] == "tiktoken", int(self.file.number("digits"))
        head = text.lower() if tiktoken else text
        for end in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
            if head.startswith(end):
                return len(end)
        space, line = text[0] == " ", text[0] in "\r\n"
        skip = int(not line and kinds[0] not in ("L", "N") if tiktoken else space)
        if kinds[skip : skip + 1] == ["L"]:
            return skip + _run(kinds[skip:], "L")
        before = int(space and not tiktoken)
        if kinds[before : before + 1] == ["N"]:
            run = _run(kinds[before:], "N")
            return before + (min(run, digits) if digits else run)
        if kinds[int(space) : int(space) + 1] == [""]:
            size = space + _run(kinds[int(space) :], "")
            while tiktoken and text[size : size + 1] in ("\r", "\n"):
                size += 1
            return size
        spaces = _run(kinds, "S")
        lines = [i for i in range(spaces) if text[i] in "\r\n"]
        if tiktoken and lines:
            return lines[-1] + 1
        return spaces - 1 if 1 < spaces < len(text) else spaces

    def decode(self, ids):
        joint = b" " if self.kind == "word" else b""
        return joint.join(self.texts[i] for i in ids).decode("utf-8", "replace")


def _run(kinds, kind):
    """How many from the first on are of a kind."""
    return next((i for i, other in enumerate(kinds) if other != kind), len(kinds))


def _class(character):
    if character in "\t\n\v\f\r\x85":
        return "S"
    return {"L": "L", "N": "N", "Z": "S"}.get(unicodedata.category(character)[0], "")


def choose(logits, suppressed, temperature, top_p):
    """The most likely token, or one by chance among those that together have top_p."""
    for i in suppressed:
        logits[i] = -math.inf
    best = max(range(len(logits)), key=logits.__getitem__)
    if temperature <= 0:
        return best
    chances = softmax([logit / temperature for logit in logits])
    likely, total = [], 0.0
    for i in sorted(range(len(chances)), key=chances.__getitem__, reverse=True):
        likely.append(i)
        total += chances[i]
        if total >= top_p:
            break
    return random.choices(likely, [chances[i] for i in likely])[0]


def main():
    parser = argparse.ArgumentParser(description="Continues a text, or answers with --chat.")
    parser.add_argument("text")
    parser.add_argument("--chat", action="store_true", help="the text is a message")
    parser.add_argument("-n", type=int, default=100, help="most tokens (100)")
    parser.add_argument("-t", type=float, default=0.0, help="temperature (0: the most likely)")
    parser.add_argument("-p", type=float, default=0.95, help="top-p, with a temperature (0.95)")
    parser.add_argument("-s", type=int, help="seed")
    parser.add_argument("--ids", action="store_true", help="print token ids")
    options = parser.parse_args()
    if options.s is not None:
        random.seed(options.s)
    with zipfile.ZipFile(sys.argv[0]) as bundle:
        file = File(bundle.read("model.bin"))
    tokens = Tokens(file)
    if options.chat and "chat_before" not in file.places:
        fail("this model has no chat template")
    asked = tokens.encode(options.text, options.chat)
    ids = file.ids("chat_before" if options.chat else "prefix_ids") + asked
    ids += file.ids("chat_after") if options.chat else []
    if not asked and not options.chat:
        ids = file.ids("start_ids")
    model = Model(file)
    if len(ids) > model.context:
        fail("the text is longer than the model's context")
    suppressed, ends, written = file.ids("suppressed"), set(file.ids("end_ids")), list[int]()
    shown = first = seen = 0  # the model sees the ids from `first` on
    logits: list[float] = []
    while len(written) < options.n:
        if seen - first == model.context:  # the newer half is a prompt
            seen = first = len(ids) - max(1, model.context // 2)
        for place in range(seen, len(ids)):
            logits = model.forward(ids[place], place - first, place + 1 == len(ids))
        seen = len(ids)
        token = choose(logits, suppressed, options.t, options.p)
        if token in ends:
            break
        ids.append(token)
        written.append(token)
        text = tokens.decode(written).rstrip("\ufffd")
        print(f"{token} " if options.ids else text[shown:], end="", flush=True)
        shown = max(shown, len(text))
    print()


if __name__ == "__main__":
    main()
