"""Byte-level BPE as machine code: text cut as GPT-2 cuts it, each word's merges found once.

The ids are those of the `tokenizers` library, several times as fast (`python
benchmarks/tokenizing.py`). Everything compiled for this stands in this one module.
"""

import numpy as np

from ...compiled import entry, inner

OTHER, LETTER, NUMBER, SPACE = range(4)
"""The classes of characters that GPT-2's rule for cutting text knows."""

SLOTS = 1 << 17
"""Words remembered, a power of two: more are met in a long text, but seldom twice."""
KEY_WORDS, MOST_IDS = 4, 7
"""A slot holds the bytes of a word in 4 numbers of 64 bits, its length in the last one's highest
byte; and the number of its ids, then at most 7 of them. A longer word is merged at each meeting."""
LONGEST_KEY = 8 * KEY_WORDS - 1

_EMPTY = np.uint64(0)
_PAIR_MULTIPLIER = np.uint64(
    0x9E3779B97F4A7C15
)  # 2^64 / golden ratio (Knuth's multiplicative hash)


@inner
def _character(text, i):
    """The code point that begins at byte i of UTF-8 text, and the place of the next one."""
    byte = np.uint32(text[i])
    if byte < 0x80:
        return byte, i + 1
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | (text[i + 1] & 0x3F), i + 2
    if byte < 0xF0:
        high = (byte & 0x0F) << 12 | np.uint32(text[i + 1] & 0x3F) << 6
        return high | (text[i + 2] & 0x3F), i + 3
    high = (byte & 0x07) << 18 | np.uint32(text[i + 1] & 0x3F) << 12
    return high | np.uint32(text[i + 2] & 0x3F) << 6 | (text[i + 3] & 0x3F), i + 4


@inner
def _after_run(text, i, end, classes, wanted):
    """The first place from i on, below `end`, whose character is not of the class wanted."""
    while i < end:
        code, following = _character(text, i)
        if classes[code] != wanted:
            return i
        i = following
    return end


@inner
def _after_contraction(text, i, end):
    """Behind the 's 't 'm 'd 're 've 'll at i; i itself if absent."""
    if text[i] != 0x27 or i + 1 >= end:
        return i
    first = text[i + 1]
    if first == 0x73 or first == 0x74 or first == 0x6D or first == 0x64:
        return i + 2
    if i + 2 < end:
        second = text[i + 2]
        if (first == 0x72 or first == 0x76) and second == 0x65:
            return i + 3
        if first == 0x6C and second == 0x6C:
            return i + 3
    return i


@inner
def _after_spaces(text, i, end, classes):
    """Behind white space at i: all of it at the end of the text, else all but its last character,
    which goes with what follows; a single one stands alone."""
    last = i
    place = i
    while place < end:
        code, following = _character(text, place)
        if classes[code] != SPACE:
            return last if last > i else place
        last = place
        place = following
    return end


@inner
def word_end(text, i, end, classes):
    """Finds the end of a word by GPT-2's rule:

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

    Args:
        text: (N,) uint8, UTF-8.
        i: The first byte of the word.
        end: Where the text ends for this rule, in bytes.
        classes: The class of every code point.

    Returns:
        The place of the byte after the word.
    """
    contracted = _after_contraction(text, i, end)
    if contracted > i:
        return contracted
    code, following = _character(text, i)
    kind = classes[code]
    if code == 0x20 and following < end:
        code, behind = _character(text, following)
        if classes[code] != SPACE:
            return _after_run(text, behind, end, classes, classes[code])
    if kind != SPACE:
        return _after_run(text, following, end, classes, kind)
    return _after_spaces(text, i, end, classes)


@inner
def _find(text, i, pattern):
    """The place of the pattern in text[i:], or the text's size; also where the pattern is empty."""
    if pattern.size == 0:
        return text.size
    for place in range(i, text.size - pattern.size + 1):
        if text[place] == pattern[0]:
            same = 1
            while same < pattern.size and text[place + same] == pattern[same]:
                same += 1
            if same == pattern.size:
                return place
    return text.size


@inner
def _merge_of(left, right, pairs, merges):
    """The row of `merges` for a pair of ids, or -1."""
    key = np.uint64(left) << np.uint64(32) | np.uint64(right)
    mask = pairs.size - 1
    place = np.int64((key * _PAIR_MULTIPLIER) >> np.uint64(33)) & mask
    while merges[place, 0] >= 0:
        if pairs[place] == key:
            return place
        place = (place + 1) & mask
    return -1


@entry
def fill_pairs(lefts, rights, merged, pairs, merges):
    """Enters merges into a hash table, (left, right) -> (rank, merged).

    Args:
        lefts, rights: (M,) the ids of each merge, in order of rank.
        merged: (M,) the id that each merge gives.
        pairs: (P,) uint64, gets the keys; P is a power of two above M.
        merges: (P, 2), all -1; gets rank and merged id.
    """
    mask = pairs.size - 1
    for rank in range(lefts.size):
        key = np.uint64(lefts[rank]) << np.uint64(32) | np.uint64(rights[rank])
        place = np.int64((key * _PAIR_MULTIPLIER) >> np.uint64(33)) & mask
        while merges[place, 0] >= 0 and pairs[place] != key:
            place = (place + 1) & mask
        pairs[place] = key
        merges[place, 0] = rank
        merges[place, 1] = merged[rank]


@inner
def _push(heap, size, item):
    """Adds an item to the binary heap heap[:size], the least at its top; the new size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent] <= item:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = item
    return size + 1


@inner
def _pop(heap, size):
    """Takes the least item from the binary heap heap[:size]."""
    least = heap[0]
    item = heap[size - 1]
    size -= 1
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item
    return least


@inner
def _propose(left, right, ids, pairs, merges, heap, size):
    """Puts the merge of the symbols at two places on the heap, if there is one; its new size."""
    row = _merge_of(ids[left], ids[right], pairs, merges)
    if row < 0:
        return size
    item = np.uint64(merges[row, 0]) << np.uint64(32) | np.uint64(left)
    return _push(heap, size, item)


@inner
def _merge(text, i, end, byte_ids, pairs, merges, links, heap, out, count):
    """Writes the ids of the word text[i:end] to out[count:]; the new count.

    Of all neighbors the pair of the lowest rank is merged, the leftmost first, until none is
    known (Sennrich et al., 2016). `links` (3, N): id, next and previous place of each symbol, which
    stands at the place of its first byte; a symbol that was merged away has id -1.
    """
    length = end - i
    ids, following, previous = links[0], links[1], links[2]
    size = np.int64(0)
    for k in range(length):
        ids[k] = byte_ids[text[i + k]]
        following[k] = k + 1
        previous[k] = k - 1
    for k in range(length - 1):
        size = _propose(k, k + 1, ids, pairs, merges, heap, size)
    while size > 0:
        item = _pop(heap, size)
        size -= 1
        left = np.int64(item & np.uint64(0xFFFFFFFF))
        right = np.int64(following[left])
        if ids[left] < 0 or right >= length:
            continue  # it was merged away, or is the last
        row = _merge_of(ids[left], ids[right], pairs, merges)
        if row < 0 or np.uint64(merges[row, 0]) != item >> np.uint64(32):
            continue  # one of the two is no longer what it was
        ids[left] = merges[row, 1]
        ids[right] = -1
        beyond = np.int64(following[right])
        following[left] = beyond
        if beyond < length:
            previous[beyond] = left
            size = _propose(left, beyond, ids, pairs, merges, heap, size)
        if previous[left] >= 0:
            size = _propose(np.int64(previous[left]), left, ids, pairs, merges, heap, size)
    place = np.int64(0)
    while place < length:
        out[count] = ids[place]
        count += 1
        place = np.int64(following[place])
    return count


@inner
def _slot_of(text, i, end, key):
    """Packs the bytes of a word into `key` (KEY_WORDS,); the slot where it would be remembered."""
    for k in range(KEY_WORDS):
        key[k] = _EMPTY
    for k in range(end - i):
        key[k >> 3] |= np.uint64(text[i + k]) << np.uint64(8 * (k & 7))
    key[KEY_WORDS - 1] |= np.uint64(end - i) << np.uint64(56)
    mixed = _EMPTY
    for k in range(KEY_WORDS):
        mixed = (mixed ^ key[k]) * _PAIR_MULTIPLIER
        mixed ^= mixed >> np.uint64(32)
    return np.int64(mixed & np.uint64(SLOTS - 1))


@entry
def encode(text, stop, stop_id, classes, byte_ids, pairs, merges, keys, known, links, heap, out):
    """Encodes text with byte-level BPE.

    Args:
        text: (N,) uint8, UTF-8.
        stop: Bytes that are always the one token `stop_id` where they occur; may be empty.
        stop_id: The id of that token.
        classes: The class of every code point.
        byte_ids: (256,) the ids of single bytes.
        pairs, merges: The merges, as `fill_pairs` enters them.
        keys, known: (SLOTS + 1, KEY_WORDS) and (SLOTS, 1 + MOST_IDS), a cache of words between
            calls; zeros at first.
        links, heap: (3, N) and (3 N,), scratch.
        out: At least (N,), gets the ids.

    Returns:
        The number of ids written.
    """
    key = keys[SLOTS]  # one more row, which no word has
    count = i = np.int64(0)  # a bare 0 is a type of its own, for which all is compiled twice
    while i < text.size:
        end = _find(text, i, stop)
        while i < end:
            following = word_end(text, i, end, classes)
            if following - i > LONGEST_KEY:
                count = _merge(text, i, following, byte_ids, pairs, merges, links, heap, out, count)
                i = following
                continue
            slot = _slot_of(text, i, following, key)
            same = True
            for k in range(KEY_WORDS):
                same &= keys[slot, k] == key[k]
            if same:
                for k in range(known[slot, 0]):
                    out[count + k] = known[slot, 1 + k]
                count += known[slot, 0]
            else:
                first = count
                count = _merge(text, i, following, byte_ids, pairs, merges, links, heap, out, count)
                if count - first <= MOST_IDS:
                    for k in range(KEY_WORDS):
                        keys[slot, k] = key[k]
                    known[slot, 0] = count - first
                    for k in range(count - first):
                        known[slot, 1 + k] = out[first + k]
            i = following
        if end < text.size:
            out[count] = stop_id
            count += 1
            i = end + stop.size
    return count
