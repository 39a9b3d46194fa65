"""What stands at an address in memory, for the compiled functions."""

from typing import Any

from ..compiled import intrinsic, ir, types


@intrinsic
def data_address(typing_context, array):
    """The address of an array's first item.

    Args:
        array: Of any type and shape.
    """

    def generate(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), generate


def _loader(result: str, bits: int, convert: str | None = None) -> Any:
    """A function that gives what stands at an address.

    Args:
        result: Numba's name of its type.
        bits: How many stand there.
        convert: LLVM's conversion of an integer to 32 bits.
    """

    def load(typing_context, address):
        """What stands at an address."""

        def generate(context, builder, signature, values):
            kind = ir.FloatType() if result == "float32" else ir.IntType(bits)
            value = builder.load(builder.inttoptr(values[0], kind.as_pointer()), align=1)
            return getattr(builder, convert)(value, ir.IntType(32)) if convert else value

        return getattr(types, result)(types.int64), generate

    return intrinsic(load)


load_float = _loader("float32", 32)
load_byte = _loader("int32", 8, "zext")
load_signed = _loader("int32", 8, "sext")
load_upper_half = _loader("int32", 16, "zext")
load_int32 = _loader("int32", 32)


@intrinsic
def load_half(typing_context, address):
    """The float16 at an address, as float32.

    Args:
        address: An int64.
    """

    def generate(context, builder, signature, values):
        from .llvm_building import widened

        pointer = builder.inttoptr(values[0], ir.IntType(16).as_pointer())
        return widened(builder, builder.load(pointer, align=2))

    return types.float32(types.int64), generate


@intrinsic
def store_float(typing_context, address, value):
    """Writes a float32 to an address.

    Args:
        address: An int64.
        value: The number.
    """

    def generate(context, builder, signature, values):
        builder.store(values[1], builder.inttoptr(values[0], ir.FloatType().as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@intrinsic
def multiply_add(typing_context, a, b, c):
    """a b + c, rounded as in the products: no compiler may change the order of such sums.

    Args:
        a: A float32.
        b: A float32.
        c: A float32.
    """

    def generate(context, builder, signature, values):
        """One instruction where the processor has it."""
        from .product_code import kit_of_this_machine

        if not kit_of_this_machine().fused:
            return builder.fadd(builder.fmul(values[0], values[1]), values[2])
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
        name = "llvm.fma.f32"
        known = builder.module.globals
        function = known[name] if name in known else ir.Function(builder.module, kind, name)
        return builder.call(function, values)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def as_float(typing_context, bits):
    """The float32 with the bits of an int32.

    Args:
        bits: An int32.
    """

    def generate(context, builder, signature, values):
        return builder.bitcast(values[0], ir.FloatType())

    return types.float32(types.int32), generate
