"""Products of matrices in panels, for the compiled functions."""

import functools
import hashlib
from pathlib import Path

from .. import __version__
from ..compiled import intrinsic, ir, types
from ..machine import plain_loops
from .panels import Storage


def _sources_hash() -> str:
    """A hash of the files that write the products: with it, machine code that is kept is noticed
    to be old when they change."""
    names = "panels.py", "llvm_building.py", "product_code.py", "plain_products.py", "addresses.py"
    try:
        content = b"".join(Path(__file__).with_name(name).read_bytes() for name in names)
    except OSError:  # in an archive
        return __version__
    return hashlib.sha256(content).hexdigest()


_SOURCES = _sources_hash()

PLAIN = 1 << 16
"""Bit of `storages` for products in plain loops; bit s is for Storage s, bit 8 + s for it with int8
inputs."""
PLAIN_LOOPS = PLAIN * plain_loops()
"""That bit, where MINIGPT_KERNELS asks for it."""


@functools.partial(intrinsic, prefer_literal=True)
def multiply(typing_context, storages, arguments):
    """A product, in the compiled functions.

    Args:
        storages: A constant: the bits of the storages that the matrices may have, as for PLAIN.
        arguments: A tuple of `product_code.ARGUMENTS`.
    """
    wanted = storages.literal_value

    def generate(context, builder, signature, values):
        """A branch for each storage that is wanted."""
        from .product_code import ARGUMENTS, ProductCode, kit_of_this_machine

        if wanted & PLAIN:
            from .plain_products import plain_product

            plain = types.void(arguments, types.boolean)
            integers = ir.Constant(ir.IntType(1), wanted >> 8 & 255 != 0)
            context.compile_internal(builder, plain_product, plain, [values[1], integers])
            return context.get_dummy_value()
        each = [builder.extract_value(values[1], i) for i in range(len(ARGUMENTS))]
        end = builder.append_basic_block("end")
        choice = builder.switch(each[0], end)
        for storage in Storage:
            for integers in (False, True):
                if not wanted >> (8 * integers + storage) & 1:
                    continue
                code = ProductCode(
                    builder.module, storage, integers, kit_of_this_machine(), _SOURCES[:8]
                )
                function = code.function()
                case = builder.append_basic_block(storage.name)
                choice.add_case(ir.Constant(ir.IntType(64), storage), case)
                builder.position_at_end(case)
                builder.call(function, each)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(storages, arguments), generate
