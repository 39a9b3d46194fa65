"""What LLVM does not make vectors of by itself: maxima, and rounding to int8."""

from ..compiled import intrinsic, ir, types
from .panels import LANES


@intrinsic
def largest(typing_context, address, count):
    """The largest of some float32 numbers.

    Args:
        address: Of the first.
        count: How many, whole vectors of LANES.
    """

    def generate(context, builder, signature, values):
        number = ir.FloatType()
        vector = ir.VectorType(number, LANES)
        before, loop = builder.block, builder.append_basic_block("largest")
        builder.branch(loop)
        builder.position_at_end(loop)
        i, best = builder.phi(ir.IntType(64)), builder.phi(vector)
        i.add_incoming(ir.Constant(ir.IntType(64), 0), before)
        best.add_incoming(ir.Constant(vector, [float("-inf")] * LANES), before)
        place = builder.add(values[0], builder.mul(i, ir.Constant(ir.IntType(64), 4)))
        found = builder.load(builder.inttoptr(place, vector.as_pointer()), align=4)
        better = builder.select(builder.fcmp_ordered(">", found, best), found, best)
        following = builder.add(i, ir.Constant(ir.IntType(64), LANES))
        i.add_incoming(following, loop)
        best.add_incoming(better, loop)
        end = builder.append_basic_block("largest.end")
        builder.cbranch(builder.icmp_signed("<", following, values[1]), loop, end)
        builder.position_at_end(end)
        return _reduced(builder, better)

    return types.float32(types.int64, types.int64), generate


@intrinsic
def round_block(typing_context, x, q, scale, total):
    """Rounds 32 numbers to int8, with 127 for the largest.

    Args:
        x: Address of the numbers, float32.
        q: Address of the result, int8.
        scale: Address of the step between them, float32.
        total: Address of their sum, int32.
    """

    def generate(context, builder, signature, values):
        from .llvm_building import call, splat

        number, integer = ir.FloatType(), ir.IntType(32)
        vector, integers = ir.VectorType(number, LANES), ir.VectorType(integer, LANES)
        small = ir.VectorType(ir.IntType(8), LANES)

        def pointer(address, kind, bytes_behind=0):
            behind = ir.Constant(ir.IntType(64), bytes_behind)
            return builder.inttoptr(builder.add(address, behind), kind.as_pointer())

        halves = [builder.load(pointer(values[0], vector, 64 * half), align=4) for half in range(2)]
        absolute = [call(builder, "llvm.fabs.v16f32", vector, half) for half in halves]
        larger = builder.fcmp_ordered(">", absolute[0], absolute[1])
        most = _reduced(builder, builder.select(larger, *absolute))
        enough = builder.fcmp_ordered(">", most, ir.Constant(number, 1e-30))
        divided = builder.fdiv(ir.Constant(number, 127.0), most)
        inverse = splat(builder, builder.select(enough, divided, ir.Constant(number, 0.0)))
        step = builder.fdiv(most, ir.Constant(number, 127.0))
        builder.store(step, pointer(values[2], number))
        sums = ir.Constant(integers, [0] * LANES)
        for half, given in enumerate(halves):
            scaled = builder.fmul(given, inverse)
            rounded = builder.fptosi(call(builder, "llvm.rint.v16f32", vector, scaled), integers)
            sums = builder.add(sums, rounded)
            target = pointer(values[1], small, LANES * half)
            builder.store(builder.trunc(rounded, small), target, align=1)
        builder.store(
            call(builder, "llvm.vector.reduce.add.v16i32", integer, sums),
            pointer(values[3], integer),
        )
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


def _reduced(builder, vector):
    """The largest number of a vector."""
    for width in (8, 4, 2, 1):
        places = [*range(width, 2 * width), *range(LANES - width)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), places)
        other = builder.shuffle_vector(vector, vector, mask)
        vector = builder.select(builder.fcmp_ordered(">", vector, other), vector, other)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
