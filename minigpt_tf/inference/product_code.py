"""Products of matrices in panels, built as LLVM instructions.

Numba's own loops leave it to LLVM in which order a sum is made and how wide the registers are. Here
both are fixed: a vector of 16 floats holds a sum for each output of a panel, whatever the processor
makes of it (one AVX-512 register, two of AVX2, four of NEON), and every sum is made in one order,

    bias + (x[0] w[0] + ... + x[31] w[31]) + (x[32] w[32] + ... + x[63] w[63]) + ...

with the products of a block added one after the other by fused multiply-add. So a result has the
same bits for one token and for many, for one thread and for more, and for each way in which the
same weights can be stored. `plain_products.plain_product` is the same in plain loops.
"""

from typing import Any, NamedTuple

from llvmlite import ir

from ..machine import used_features
from .blocks import BLOCK
from .llvm_building import (
    BYTE,
    FLOAT,
    FLOATS,
    HALVES,
    INT32,
    INT64,
    INTS,
    ZERO,
    Loop,
    call,
    int32,
    int64,
    ints,
    pairs,
    splat,
    times,
    variable,
    widened,
)
from .panels import BYTES_OF_A_BLOCK, LANES, SCALES_OF_A_BLOCK, Storage

_INPUTS = ("x", "x_step", "int8", "scales", "sums", "int8_step", "tokens")
_MATRIX = ("storage", "panels", "panel_step", "count", "blocks")
ARGUMENTS = (*_MATRIX, *_INPUTS, "bias", "bias_step", "out", "out_step")
"""Of a product, all int64. Addresses: the first panel, the tokens' inputs x, the same as int8 with
the scales and sums of their blocks, the biases, the outputs. Numbers: the Storage, panels, blocks
of 32 inputs, tokens. Steps: bytes from one panel to the next; inputs from one token to the next,
for x and int8; floats from one panel's biases to the next one's, and from one token's outputs to
the next one's."""


class Kit(NamedTuple):
    """What a processor offers to the products."""

    tiles: tuple[int, ...]
    """How many tokens' sums are held in registers at once, largest first."""
    fused: bool
    """Whether it multiplies and adds with one rounding."""
    dot: str
    """Instructions for int8 products: vnni512 | vnni256 | madd512 | madd256 | neon | none."""


def kit_of(features: dict[str, bool]) -> Kit:
    """What a processor offers.

    Args:
        features: By LLVM's names.

    Returns:
        The widest that it has.
    """
    has = lambda *names: all(features.get(name, False) for name in names)  # noqa: E731
    wide = has("avx512f", "avx512bw")
    if has("avx512vnni") and wide:
        dot = "vnni512"
    elif has("avxvnni") or has("avx512vnni", "avx512vl"):
        dot = "vnni256"
    elif wide:
        dot = "madd512"
    elif has("neon", "dotprod"):
        dot = "neon"
    else:
        dot = "madd256" if has("avx2") else "none"
    return Kit(
        tiles=(12, 8, 4, 2, 1) if wide else (4, 2, 1),
        fused=has("fma") or has("neon"),
        dot=dot,
    )


class ProductCode:
    """Builds one product: a loop over panels, tiles of tokens, blocks and inputs.

    Args:
        module: Of LLVM, in which the function is.
        storage: How the matrix is stored.
        integers: Whether the inputs are int8.
        kit: What the processor offers.
        suffix: Of the function's name.
    """

    def __init__(
        self, module: ir.Module, storage: Storage, integers: bool, kit: Kit, suffix: str
    ) -> None:
        self.module, self.storage, self.integers, self.kit = module, storage, integers, kit
        self.suffix = suffix

    def function(self) -> ir.Function:
        """The product as a function of ARGUMENTS; the same one if the module has it."""
        inputs = "int8" if self.integers else "float32"
        name = f"minigpt_product_{self.storage.name.lower()}_{inputs}_{self.suffix}"
        if name in self.module.globals:
            return self.module.globals[name]
        kind = ir.FunctionType(ir.VoidType(), [INT64] * len(ARGUMENTS))
        function = ir.Function(self.module, kind, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        self.b = b = ir.IRBuilder(function.append_basic_block("entry"))
        given = dict(zip(ARGUMENTS, function.args, strict=True))
        self.blocks, self.x = given["blocks"], given["int8" if self.integers else "x"]
        self.x_step = given["int8_step" if self.integers else "x_step"]
        self.x_scales, self.x_sums = given["scales"], given["sums"]
        self.x_blocks = b.lshr(self.x_step, int64(5))  # of a token's scales and sums
        some = b.icmp_signed(">", given["count"], int64(0))
        with b.if_then(b.not_(some), likely=False):
            b.ret_void()
        scale_bytes = b.mul(self.blocks, int64(SCALES_OF_A_BLOCK[self.storage]))
        self.header = b.and_(b.add(scale_bytes, int64(63)), int64(-64))
        with Loop(b, given["count"]) as panel:
            self.panel = b.add(given["panels"], b.mul(panel, given["panel_step"]))
            bias_at = b.add(given["bias"], times(b, b.mul(panel, given["bias_step"]), 4))
            bias = self.load(bias_at, FLOATS, 4)
            out = b.add(given["out"], b.mul(panel, int64(4 * LANES)))
            token = variable(b, INT64)
            b.store(int64(0), token)
            for tile in self.kit.tiles:
                self.tiles(tile, token, given["tokens"], bias, out, given["out_step"])
        b.ret_void()
        return function

    def tiles(self, tile: int, token: Any, tokens: Any, bias: Any, out: Any, step: Any) -> None:
        """As many tiles of this size as there are tokens left for.

        Args:
            tile: Tokens of a tile.
            token: The variable with the first token that is left.
            tokens: Number of all.
            bias: Of the panel, where the sums begin.
            out: Address of the panel's outputs of the first token.
            step: Floats from one token's outputs to the next one's.
        """
        b = self.b
        head, body, end = (b.append_basic_block(f"tile{tile}") for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        after = b.add(b.load(token), int64(tile))
        b.cbranch(b.icmp_signed("<=", after, tokens), body, end)
        b.position_at_end(body)
        first = b.load(token)
        totals = [variable(b, FLOATS) for _ in range(tile)]
        for total in totals:
            b.store(bias, total)
        with Loop(b, self.blocks) as block:
            (self.integer_block if self.integers else self.float_block)(first, block, totals)
        for number, total in enumerate(totals):
            row = b.mul(b.add(first, int64(number)), step)
            self.store(b.load(total), b.add(out, times(b, row, 4)))
        b.store(after, token)
        b.branch(head)
        b.position_at_end(end)

    def float_block(self, first: Any, block: Any, totals: list[Any]) -> None:
        """Adds the products of one block, in float32, to each token's total.

        Args:
            first: The tile's first token.
            block: The block.
            totals: A variable for each token.
        """
        b, width, base = self.b, BYTES_OF_A_BLOCK[self.storage], self.start_of(block)
        scales = self.scales(block)
        ahead = bytes_ahead(self.storage, len(totals))
        sums = [variable(b, FLOATS) for _ in totals]
        for total in sums:
            b.store(ZERO, total)
        inputs = {Storage.BLOCKS8: 4, Storage.BLOCKS4: 8}.get(self.storage, 4)
        with Loop(b, int64(BLOCK // inputs)) as group:
            weights_at = b.add(base, b.mul(group, int64(width * inputs // BLOCK)))
            column = b.add(b.mul(block, int64(BLOCK)), b.mul(group, int64(inputs)))
            self.prefetch(weights_at, width * inputs // BLOCK, ahead)
            for number, weights in enumerate(self.weights(weights_at, scales)):
                for t, total in enumerate(sums):
                    row = b.mul(b.add(first, int64(t)), self.x_step)
                    place = b.add(b.add(row, column), int64(number))
                    value = self.load(b.add(self.x, times(b, place, 4)), FLOAT, 4)
                    b.store(self.multiply_add(weights, splat(b, value), b.load(total)), total)
        for total, of_block in zip(totals, sums, strict=True):
            b.store(b.fadd(b.load(total), b.load(of_block)), total)

    def weights(self, address: Any, scales: list[Any]) -> list[Any]:
        """The next weights of a block.

        Args:
            address: Where they stand.
            scales: As from `scales`.

        Returns:
            Vectors of floats, one for each input.
        """
        b = self.b
        if self.storage == Storage.FLOAT32:
            return [
                self.load(b.add(address, int64(4 * LANES * i)), FLOATS, 4 * LANES) for i in range(4)
            ]
        if self.storage == Storage.BFLOAT16:
            twos = [self.load(b.add(address, int64(64 * i)), INTS, 64) for i in range(2)]
            upper = ints(-65536)
            return [
                b.bitcast(half, FLOATS)
                for pair in twos
                for half in (b.shl(pair, ints(16)), b.and_(pair, upper))
            ]
        raw = self.load(address, INTS, 64)
        if self.storage == Storage.BLOCKS8:
            shifts, mask = [*range(0, 32, 8)], 255
        else:
            shifts, mask = [*range(0, 32, 8), *range(4, 32, 8)], 15
        return [self.weight(raw, shift, mask, scales) for shift in shifts]

    def weight(self, raw: Any, shift: int, mask: int, scales: list[Any]) -> Any:
        """d u + m. With d of 11 bits and u of 8 the product is exact, so it is rounded once,
        fused or not.

        Args:
            raw: Integers of 32 bits, which have several u.
            shift: Where u begins.
            mask: Its bits.
            scales: d and m.

        Returns:
            A vector of floats.
        """
        b, (d, m) = self.b, scales
        u = b.and_(b.lshr(raw, ints(shift)), ints(mask))
        return self.multiply_add(d, b.sitofp(u, FLOATS), m)

    def start_of(self, block: Any) -> Any:
        """The address of a block's weights in the panel."""
        b, width = self.b, BYTES_OF_A_BLOCK[self.storage]
        return b.add(b.add(self.panel, self.header), b.mul(block, int64(width)))

    def scales(self, block: Any) -> list[Any]:
        """d and m of a block, for all outputs of the panel; nothing for a storage without."""
        b = self.b
        if self.storage not in (Storage.BLOCKS8, Storage.BLOCKS4):
            return []
        at = b.add(self.panel, b.mul(block, int64(SCALES_OF_A_BLOCK[self.storage])))
        d = widened(b, self.load(at, HALVES, 32))
        if self.storage == Storage.BLOCKS4:
            return [d, widened(b, self.load(b.add(at, int64(32)), HALVES, 32))]
        return [d, b.fmul(d, ir.Constant(FLOATS, [-128.0] * LANES))]

    def integer_block(self, first: Any, block: Any, totals: list[Any]) -> None:
        """Adds the products of one block, of which int8 inputs make integer sums.

        With x = s q, sums over (d u + m) x are d s sum(u q) + m s sum(q).

        Args:
            first: The tile's first token.
            block: The block.
            totals: A variable for each token.
        """
        b, width, base = self.b, BYTES_OF_A_BLOCK[self.storage], self.start_of(block)
        self.prefetch(base, width, bytes_ahead(self.storage, len(totals)))
        scales = self.scales(block)
        places = [
            b.add(b.mul(b.add(first, int64(t)), self.x_blocks), block) for t in range(len(totals))
        ]
        sums = [self.load(b.add(self.x_sums, times(b, place, 4)), INT32, 4) for place in places]
        if self.storage == Storage.BLOCKS8 and self.kit.dot != "neon":  # sum((u - 128) q), exactly
            start = [splat(b, b.mul(total, ir.Constant(INT32, -128))) for total in sums]
        else:
            start = [ints(0)] * len(totals)
        for group in range(width // 64):
            raw = self.load(b.add(base, int64(64 * group)), INTS, 64)
            if self.storage == Storage.BLOCKS4:
                nibbles = ints(0x0F0F0F0F)
                fours = [b.and_(raw, nibbles), b.and_(b.lshr(raw, ints(4)), nibbles)]
            else:
                fours = [raw]
            for number, weights in enumerate(fours):
                prepared = self.prepare(weights)
                column = 4 * (group * len(fours) + number)
                for t in range(len(totals)):
                    row = b.mul(b.add(first, int64(t)), self.x_step)
                    place = b.add(b.add(row, b.mul(block, int64(BLOCK))), int64(column))
                    value = self.load(b.add(self.x, place), INT32, 4)
                    start[t] = self.dot(start[t], prepared, value)
        for t, total in enumerate(totals):
            scale = self.load(b.add(self.x_scales, times(b, places[t], 4)), FLOAT, 4)
            factor = b.fmul(scales[0], splat(b, scale))
            new = self.multiply_add(factor, b.sitofp(start[t], FLOATS), b.load(total))
            if self.storage == Storage.BLOCKS4:
                shift = b.fmul(scale, b.sitofp(sums[t], FLOAT))
                new = self.multiply_add(scales[1], splat(b, shift), new)
            b.store(new, total)

    def prefetch(self, address: Any, size: int, ahead: int) -> None:
        """Asks for the weights that come later.

        Args:
            address: Of the weights that come now.
            size: Their bytes.
            ahead: How much later, in bytes; 0: not at all.
        """
        if not ahead:
            return
        locality = 3 if ahead < 4096 else 2  # into the first cache, or the second
        flags = [int32(0), int32(locality), int32(1)]
        for line in range(0, size, 64):
            place = self.b.inttoptr(self.b.add(address, int64(ahead + line)), BYTE.as_pointer())
            call(self.b, "llvm.prefetch.p0", ir.VoidType(), place, *flags)

    def prepare(self, weights: Any) -> Any:
        """The weights (16 x 4 bytes) as `dot` takes them."""
        b = self.b
        if self.kit.dot.startswith("vnni"):
            return weights
        if self.kit.dot.startswith("madd"):  # bytes 0 and 2, 1 and 3, as pairs of 16 bits
            low = ints(0x00FF00FF)
            return b.and_(weights, low), b.and_(b.lshr(weights, ints(8)), low)
        if self.kit.dot == "neon":  # signed bytes: u - 128, or u below 16
            return b.xor(weights, ints(-0x7F7F7F80)) if self.storage == Storage.BLOCKS8 else weights
        return [b.and_(b.lshr(weights, ints(shift)), ints(255)) for shift in range(0, 32, 8)]

    def dot(self, total: Any, weights: Any, value: Any) -> Any:
        """Adds the four products of each lane's bytes with the signed bytes of a value.

        Args:
            total: A vector of integers.
            weights: From `prepare`.
            value: An integer of four bytes.

        Returns:
            The new total.
        """
        b, kind = self.b, self.kit.dot
        if kind == "vnni512":
            return call(
                self.b, "llvm.x86.avx512.vpdpbusd.512", INTS, total, weights, splat(b, value)
            )
        if kind == "vnni256":
            name = "llvm.x86.avx512.vpdpbusd.256"
            return self.narrow(name, 256, 32, total, weights, splat(b, value))
        if kind == "neon":
            name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
            return self.narrow(name, 128, 8, total, weights, splat(b, value))
        if kind.startswith("madd"):
            shifted = [b.shl(value, ir.Constant(INT32, s)) for s in (8, 0)]
            # the signed bytes 0 and 2, 1 and 3, as pairs of 16 bits
            both = [pairs(b, s) for s in shifted]
            for two, pair in zip(weights, both, strict=True):
                total = b.add(total, self.madd(two, splat(b, pair)))
            return total
        for number, one in enumerate(weights):
            signed = b.ashr(b.shl(value, int32(24 - 8 * number)), int32(24))
            total = b.add(total, b.mul(one, splat(b, signed)))
        return total

    def madd(self, weights: Any, values: Any) -> Any:
        """Products of 16 bits, of which neighbors are added.

        Args:
            weights: 32 unsigned integers.
            values: 32 signed ones.

        Returns:
            16 integers of 32 bits.
        """
        if self.kit.dot == "madd512":
            shorts = ir.VectorType(ir.IntType(16), 2 * LANES)
            both = [self.b.bitcast(given, shorts) for given in (weights, values)]
            return call(self.b, "llvm.x86.avx512.pmaddw.d.512", INTS, *both)
        return self.narrow("llvm.x86.avx2.pmadd.wd", 256, 16, weights, values)

    def narrow(self, name: str, bits: int, item: int, *vectors: Any) -> Any:
        """An intrinsic of fewer bits, on each as many bits of vectors of 512.

        Args:
            name: LLVM's.
            bits: Of its vectors.
            item: Bits of the items that it wants; a first argument of three stays as it is.
            vectors: Its arguments, 16 integers of 32 bits each.

        Returns:
            16 integers of 32 bits.
        """
        b, results, count = self.b, [], bits // 32
        ints, items = (ir.VectorType(INT32, count), ir.VectorType(ir.IntType(item), bits // item))
        kinds = [items] * len(vectors) if len(vectors) < 3 else [ints, items, items]
        for first in range(0, LANES, count):
            places = ir.Constant(ints, [*range(first, first + count)])
            taken = [b.shuffle_vector(v, v, places) for v in vectors]
            given = [b.bitcast(*pair) for pair in zip(taken, kinds, strict=True)]
            results.append(call(self.b, name, ints, *given))
        while len(results) > 1:
            count *= 2
            places = ir.Constant(ir.VectorType(INT32, count), [*range(count)])
            twos = zip(results[::2], results[1::2], strict=True)
            results = [b.shuffle_vector(*pair, places) for pair in twos]
        return results[0]

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once where the processor can.

        Args:
            a: A vector of floats.
            b: The same.
            c: The same.

        Returns:
            The same.
        """
        if not self.kit.fused:
            return self.b.fadd(self.b.fmul(a, b), c)
        return call(self.b, "llvm.fma.v16f32", FLOATS, a, b, c)

    def load(self, address: Any, kind: Any, alignment: int) -> Any:
        """What stands at an address.

        Args:
            address: An integer.
            kind: Its type.
            alignment: The address is a multiple of it.

        Returns:
            The value.
        """
        pointer = self.b.inttoptr(address, kind.as_pointer())
        return self.b.load(pointer, align=alignment)

    def store(self, value: Any, address: Any) -> None:
        """Writes a value.

        Args:
            value: What.
            address: Where to, an integer.
        """
        self.b.store(value, self.b.inttoptr(address, value.type.as_pointer()), align=4)


def bytes_ahead(storage: Storage, tokens: int) -> int:
    """How far ahead of the weights in use others are asked for, where that was faster (Zen 4).

    Where arithmetic takes about as long as reading, the processor does not look far enough ahead by
    itself: int8 products of one token go from 13 to 26 GB/s on one thread.

    Args:
        storage: How the matrix is stored.
        tokens: Of a tile.

    Returns:
        Bytes; 0 where memory is as fast as it can be.
    """
    if storage == Storage.BLOCKS4 or tokens >= 8:
        return 4096
    return 512 if storage == Storage.BLOCKS8 else 0


def kit_of_this_machine() -> Kit:
    """What the processor offers, or as much of it as MINIGPT_KERNELS allows."""
    return kit_of(used_features())
