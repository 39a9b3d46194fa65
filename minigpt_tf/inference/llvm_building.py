"""Small steps in building LLVM instructions: constants, vectors, loops, conversions."""

from typing import Any

from llvmlite import ir

from .panels import LANES

FLOAT, BYTE, INT32, INT64 = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT32, LANES)
HALVES = ir.VectorType(ir.IntType(16), LANES)
ZERO = ir.Constant(FLOATS, [0.0] * LANES)


def widened(b: Any, halves: Any) -> Any:
    """float16 as float32, also where the processor has no instruction for it.

    Args:
        b: The builder of LLVM instructions.
        halves: Their bits, an integer of 16 bits or a vector of such.

    Returns:
        LLVM's value: a float32 or a vector.
    """
    lanes = halves.type.count if isinstance(halves.type, ir.VectorType) else 0
    integers, floats = (INTS, FLOATS) if lanes else (INT32, FLOAT)

    def same(value: float, kind: ir.Type) -> ir.Constant:
        return ir.Constant(kind, [value] * lanes if lanes else value)

    bits = b.zext(halves, integers)
    size = b.bitcast(b.shl(b.and_(bits, same(0x7FFF, integers)), same(13, integers)), floats)
    scaled = b.fmul(size, same(2.0**112, floats))  # exponents of float16 are biased by 15, not 127
    sign = b.shl(b.and_(bits, same(0x8000, integers)), same(16, integers))
    return b.bitcast(b.or_(b.bitcast(scaled, integers), sign), floats)


def pairs(b: Any, value: Any) -> Any:
    """Bytes 1 and 3 of an integer, signed, as its halves of 16 bits.

    Args:
        b: The builder.
        value: An integer of 32 bits.

    Returns:
        The same.
    """
    upper = b.and_(b.ashr(value, int32(8)), int32(-65536))
    lower = b.and_(b.ashr(b.shl(value, int32(16)), int32(24)), int32(65535))
    return b.or_(upper, lower)


def int64(value: int) -> ir.Constant:
    """A constant of 64 bits."""
    return ir.Constant(INT64, value)


def int32(value: int) -> ir.Constant:
    """A constant of 32 bits."""
    return ir.Constant(INT32, value)


def ints(value: int) -> ir.Constant:
    """A constant of 32 bits in all lanes."""
    return ir.Constant(INTS, [value] * LANES)


def times(b: Any, value: Any, factor: int) -> Any:
    """A product with a constant.

    Args:
        b: The builder.
        value: An integer of 64 bits.
        factor: The constant.

    Returns:
        The same.
    """
    return b.mul(value, int64(factor))


def splat(b: Any, value: Any) -> Any:
    """A value in all lanes.

    Args:
        b: The builder.
        value: A number.

    Returns:
        A vector.
    """
    kind = ir.VectorType(value.type, LANES)
    first = b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT32, 0))
    return b.shuffle_vector(first, first, ir.Constant(INTS, [0] * LANES))


def variable(b: Any, kind: Any) -> Any:
    """A variable, which LLVM keeps in a register: it stands in the function's first block.

    Args:
        b: The builder.
        kind: Its type.

    Returns:
        Its address.
    """
    with b.goto_entry_block():
        return b.alloca(kind)


class Loop:
    """for number in range(count), for a count of at least 1; gives the number.

    Args:
        b: The builder.
        count: An integer of 64 bits.
    """

    def __init__(self, b: Any, count: Any) -> None:
        self.b, self.count = b, count

    def __enter__(self) -> Any:
        b = self.b
        before, self.body = b.block, b.append_basic_block("loop")
        b.branch(self.body)
        b.position_at_end(self.body)
        self.number = b.phi(INT64)
        self.number.add_incoming(int64(0), before)
        return self.number

    def __exit__(self, *error: object) -> None:
        b = self.b
        following, end = b.add(self.number, int64(1)), b.append_basic_block("end")
        self.number.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, self.count), self.body, end)
        b.position_at_end(end)


def call(b: Any, name: str, kind: Any, *arguments: Any) -> Any:
    """A call of one of LLVM's intrinsics.

    Args:
        b: The builder.
        name: LLVM's.
        kind: Type of the result.
        arguments: LLVM's values.

    Returns:
        The result.
    """
    if name not in b.module.globals:
        given = ir.FunctionType(kind, [argument.type for argument in arguments])
        ir.Function(b.module, given, name)
    return b.call(b.module.globals[name], arguments)
