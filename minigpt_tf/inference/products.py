"""Products of matrices in panels, for the compiled functions, and what stands at an address."""

import functools
from typing import Any

from ..compiled import intrinsic, ir, types
from .panels import Storage

ARGUMENTS = ("storage", "panels", "panel_step", "count", "blocks", "x", "x_step", "int8", "scales")
ARGUMENTS += ("sums", "int8_step", "tokens", "bias", "bias_step", "out", "out_step")
"""Of a product, all int64. Addresses: the first panel, the tokens' inputs x, the same as int8 with
the scales and sums of their blocks, the biases, the outputs. Numbers: the Storage, panels, blocks
of 32 inputs, tokens. Steps: bytes from one panel to the next; inputs from one token to the next,
for x and int8; floats from one panel's biases to the next one's, and from one token's outputs to
the next one's."""

PLAIN = 1 << 16
"""Bit of `storages` for products in plain loops; bit s is for Storage s, bit 8 + s for it with int8
inputs."""


@functools.partial(intrinsic, prefer_literal=True)
def multiply(typing_context, storages, arguments):
    """A product, in the compiled functions.

    Args:
        storages: A constant: the bits of the storages that the matrices may have, as for PLAIN.
        arguments: A tuple of ARGUMENTS.
    """
    wanted = storages.literal_value

    def generate(context, builder, signature, values):
        from .product_code import ProductCode, kit_of_this_machine

        if wanted & PLAIN:
            from .plain_products import plain_product

            plain = types.void(arguments, types.boolean)
            integers = ir.Constant(ir.IntType(1), wanted >> 8 & 255 != 0)
            context.compile_internal(builder, plain_product, plain, [values[1], integers])
            return context.get_dummy_value()
        parts = [builder.extract_value(values[1], i) for i in range(len(ARGUMENTS))]
        end = builder.append_basic_block("end")
        choice = builder.switch(parts[0], end)
        for storage in Storage:
            for integers in (False, True):
                if not wanted >> (8 * integers + storage) & 1:
                    continue
                code = ProductCode(builder.module, storage, integers, kit_of_this_machine())
                function = code.function()
                case = builder.append_basic_block(storage.name)
                choice.add_case(ir.Constant(ir.IntType(64), storage), case)
                builder.position_at_end(case)
                builder.call(function, parts)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(storages, arguments), generate


@intrinsic
def data_address(typing_context, array):
    """The address of an array's first item."""

    def generate(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), generate


def _loader(result: str, bits: int, convert: str | None = None) -> Any:
    """A function that gives what stands at an address: an integer or, for "float32", a number.

    Args:
        result: Numba's name of its type.
        bits: How many stand there.
        convert: LLVM's conversion to 32 bits.
    """

    def load(typing_context, address):
        def generate(context, builder, signature, values):
            number = ir.FloatType() if bits == 32 else ir.HalfType()
            kind = number if result == "float32" else ir.IntType(bits)
            value = builder.load(builder.inttoptr(values[0], kind.as_pointer()), align=1)
            wide = ir.FloatType() if result == "float32" else ir.IntType(32)
            return getattr(builder, convert)(value, wide) if convert else value

        return getattr(types, result)(types.int64), generate

    return intrinsic(load)


load_float = _loader("float32", 32)
load_half = _loader("float32", 16, "fpext")
load_byte = _loader("int32", 8, "zext")
load_signed = _loader("int32", 8, "sext")
load_upper_half = _loader("int32", 16, "zext")
load_int32 = _loader("int32", 32)


@intrinsic
def store_float(typing_context, address, value):
    """Writes a float32 to an address."""

    def generate(context, builder, signature, values):
        builder.store(values[1], builder.inttoptr(values[0], ir.FloatType().as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@intrinsic
def multiply_add(typing_context, a, b, c):
    """a b + c, rounded as in the products: no compiler may change the order of such sums."""

    def generate(context, builder, signature, values):
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
    """The float32 with the bits of an int32."""

    def generate(context, builder, signature, values):
        return builder.bitcast(values[0], ir.FloatType())

    return types.float32(types.int32), generate
