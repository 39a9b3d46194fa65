"""Damage, drawn by a seeded generator: of bytes, JSON, archives, and files with a JSON header."""

import io
import json
import struct
import zipfile
from random import Random

INTEGERS = [0, 1, -1, 2, 127, 255, 256, 65535, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 10**30]
INTEGERS += [-(2**31), -(2**63), 3, 5, 7, 1000, 100_000, 10**9, 10**4000]
ODD_TEXTS = ["", "\0", "\x1b[2J\x07", "\ud83d", "\u202etxt", "a" * 5000, "é" * 300, "../../x", "/"]
ODD_TEXTS += [
    "/dev/zero",
    "{{ 9**9**9 }}",
    "%s%n",
    "nan",
    "1e400",
    "<|im_end|>",
    "\r\n",
    "None",
    "-",
]
ODD_VALUES = [None, True, False, "", [], {}, [[]], {"": {}}, 0.0, -0.0, 1e308, 1e-320, 0.5]
ODD_VALUES += [float("nan"), float("inf"), -float("inf"), *INTEGERS, *ODD_TEXTS]


def mutate_bytes(content: bytes, random: Random, words: list[bytes], depth: int = 6) -> bytes:
    """Some changes to any file: bits, blocks, numbers, words of its format, truncation."""
    data = bytearray(content)
    for _ in range(random.randint(1, depth)):
        place = random.randrange(len(data) + 1)
        if random.random() < 0.5:  # the header is where most is believed
            place = min(place, random.randrange(1 + min(len(data), 2048)))
        size = min(1 << random.randrange(10), len(data) - place)
        match random.randrange(10):
            case 0 | 1 if data:
                data[place % len(data)] ^= 1 << random.randrange(8)
            case 2 if data:
                data[place % len(data)] = random.choice([0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x0A])
            case 3:
                form = random.choice(["<Q", ">Q", "<I", ">I", "<H", "<q"])
                limit = 1 << 8 * struct.calcsize(form)
                number = random.choice(INTEGERS) % (limit // 2 if form == "<q" else limit)
                data[place : place + struct.calcsize(form)] = struct.pack(form, number)
            case 4:
                del data[place : place + size]
            case 5:
                data[place:place] = data[place : place + size] * random.choice([1, 1, 2, 50])
            case 6:
                other = random.randrange(len(data) + 1)
                data[place : place + size] = data[other : other + size]
            case 7 | 8 if words:
                word = random.choice(words)
                data[place : place + random.choice([0, len(word)])] = word
            case 9 if random.random() < 0.3:
                del data[place:]
    return bytes(data[: 1 << 22])


def mutate_json(value: object, random: Random, words: list[bytes]) -> object:
    """Changes one node of a JSON value: another value, a name removed, doubled or renamed."""
    nodes: list[tuple[dict | list, object]] = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list):
            keys = list(node) if isinstance(node, dict) else range(len(node))
            nodes += [(node, key) for key in keys]
            waiting += [node[key] for key in keys]
    if not nodes:
        return random.choice(ODD_VALUES)
    for _ in range(random.randint(1, 3)):
        node, key = random.choice(nodes)
        if key not in (node if isinstance(node, dict) else range(len(node))):
            continue
        match random.randrange(9):
            case 0:
                del node[key]
            case 1 if isinstance(node, dict):
                node[random.choice(ODD_TEXTS)] = node.pop(key)
            case 2 if isinstance(node, list):
                node *= random.choice([0, 2, 100]) if len(node) < 1000 else 1
            case 3:
                node[key] = random.choice(nodes)[0]
            case 4:
                node[key] = random.choice(words).decode(errors="replace") if words else ""
            case 5 if isinstance(node[key], int | float):
                node[key] *= random.choice([-1, 2, 1000, 10**9, 0.5])
            case 6 if isinstance(node[key], str):
                text, place = node[key], random.randrange(len(node[key]) + 1)
                node[key] = text[:place] + random.choice(ODD_TEXTS) + text[place:]
            case 7 if random.random() < 0.2:
                deep: object = node[key]
                for _ in range(random.choice([10, 400, 3000])):
                    deep = [deep] if random.random() < 0.5 else {"a": deep}
                node[key] = deep
            case _:
                node[key] = random.choice(ODD_VALUES)
    return value


def dump(value: object) -> bytes:
    """JSON of anything that `mutate_json` makes, also of what leads back to itself."""
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):
        return b"[" * 100_000 + b"]" * 100_000


def mutate_json_text(content: bytes, random: Random, words: list[bytes]) -> bytes:
    """A JSON file: mostly its values, else its bytes."""
    if random.random() < 0.3:
        return mutate_bytes(content, random, words)
    return dump(mutate_json(json.loads(content), random, words))


def mutate_json_lines(content: bytes, random: Random, words: list[bytes]) -> bytes:
    """A JSONL file: the values of one line, else its bytes."""
    if random.random() < 0.4:
        return mutate_bytes(content, random, words)
    lines = content.splitlines()
    place = random.randrange(len(lines))
    lines[place] = dump(mutate_json(json.loads(lines[place]), random, words))
    return b"\n".join(lines) + b"\n"


def mutate_zip(content: bytes, random: Random, words: list[bytes]) -> bytes:
    """An archive: a member, whose checksum is right then; a bomb; or the archive's own bytes."""
    if random.random() < 0.3:
        return mutate_bytes(content, random, words)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    if random.random() < 0.05:
        members[name] = members[name] + bytes(1 << random.choice([20, 26, 28]))
    elif name.endswith(".json") and random.random() < 0.7:
        members[name] = mutate_json_text(members[name], random, words)
    else:
        members[name] = mutate_bytes(members[name], random, words)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return packed.getvalue()


def mutate_safetensors(content: bytes, random: Random, words: list[bytes]) -> bytes:
    """A safetensors file: its header, whose length is right then; else its bytes."""
    if random.random() < 0.4:
        return mutate_bytes(content, random, words)
    (length,) = struct.unpack("<Q", content[:8])
    header = dump(mutate_json(json.loads(content[8 : 8 + length]), random, words))
    return struct.pack("<Q", len(header)) + header + content[8 + length :]
