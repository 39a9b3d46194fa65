"""Products for processors that are not here. For ARM: cross-compiled and inspected, and run on this
machine with ARM's dot product as a function. For others of x86-64: run here if it can."""

import collections
import ctypes
import re

import numpy as np
import pytest
from llvmlite import binding, ir

from minigpt_tf.inference.blocks import Blocks
from minigpt_tf.inference.panels import Storage, panel_bytes
from minigpt_tf.inference.product_code import ARGUMENTS, ProductCode, kit_of
from minigpt_tf.machine import host_features
from tests.inference.test_products import KINDS, product, random_matrix, rounded, stored

NEON, DOTPROD = {"neon": True}, {"neon": True, "dotprod": True}
HOST = host_features()
AVX2 = {"avx2": True, "fma": True}
AVX512 = {**AVX2, "avx512f": True, "avx512bw": True}
KITS = {
    "none": NEON,
    "neon": DOTPROD,
    "madd256": AVX2,
    "madd512": AVX512,
    "vnni256": {**AVX2, "avxvnni": True},
    "vnni512": {**AVX512, "avx512vnni": True},
}
"""By Kit.dot."""
SDOT = "llvm.aarch64.neon.sdot.v4i32.v16i8"
SDOT_AS_A_FUNCTION = """
define internal <4 x i32> @software_sdot(<4 x i32> %total, <16 x i8> %a, <16 x i8> %b) {
  %a32 = sext <16 x i8> %a to <16 x i32>
  %b32 = sext <16 x i8> %b to <16 x i32>
  %ab = mul <16 x i32> %a32, %b32
"""
SDOT_AS_A_FUNCTION += "".join(
    f"  %p{i} = shufflevector <16 x i32> %ab, <16 x i32> %ab, "
    f"<4 x i32> <i32 {i}, i32 {i + 4}, i32 {i + 8}, i32 {i + 12}>\n"
    f"  %s{i} = add <4 x i32> {'%total' if i == 0 else f'%s{i - 1}'}, %p{i}\n"
    for i in range(4)
)
SDOT_AS_A_FUNCTION += "  ret <4 x i32> %s3\n}\n"


def code_of(storage, integers, features):
    """The product in LLVM's language, and its name there."""
    module = ir.Module()
    function = ProductCode(module, storage, integers, kit_of(features), "test").function()
    function.linkage = "external"
    return str(module), function.name


def optimized(code, machine):
    module = binding.parse_assembly(code)
    module.verify()
    options = binding.create_pipeline_tuning_options(speed_level=3)
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return module


def arm_instructions(storage, integers, features):
    """How often each instruction stands in the code, with the kinds of registers."""
    triple = "aarch64-unknown-linux-gnu"
    try:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        target = binding.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip("this LLVM does not write code for ARM")
    machine = target.create_target_machine(
        cpu="generic", features=",".join(f"+{name}" for name in features), opt=3
    )
    code, _ = code_of(storage, integers, features)
    assembly = machine.emit_assembly(optimized(f'target triple = "{triple}"\n{code}', machine))
    lines = re.findall(r"^\t([a-z]\w*)\t?([^\n/]*)", assembly, re.M)
    return collections.Counter(
        f"{name} {re.sub(r'[^.a-z0-9].*', '', re.sub(r'v[0-9]+', 'v', operands))}"
        for name, operands in lines
    )


def total(found, name):
    return sum(count for line, count in found.items() if line.split(" ")[0] == name)


@pytest.mark.parametrize("storage", Storage)
def test_float_products_are_multiplied_and_added_at_once_by_vectors(storage):
    found = arm_instructions(storage, False, NEON)
    tokens = sum(kit_of(NEON).tiles)
    inputs = 8 if storage == Storage.BLOCKS4 else 4
    assert found["fmla v.4s"] >= 4 * inputs * tokens  # 4 registers hold the 16 outputs
    assert not any(total(found, name) for name in ("bl", "blr", "fmadd"))
    assert not any(line.startswith(("fmul s", "fadd s")) for line in found)


@pytest.mark.parametrize("storage", [Storage.BLOCKS8, Storage.BLOCKS4])
@pytest.mark.parametrize("features", [NEON, DOTPROD], ids=["neon", "dotprod"])
def test_int8_products(storage, features):
    found = arm_instructions(storage, True, features)
    tokens = sum(kit_of(features).tiles)
    if features is DOTPROD:
        assert total(found, "sdot") == 32 * tokens  # 32 inputs of 16 outputs, 16 products in each
        assert not total(found, "mla")
    else:
        assert found["mla v.4s"] + found["mul v.4s"] >= 128 * tokens
    assert not any(total(found, name) for name in ("bl", "blr"))


def test_the_dot_product_is_taken_where_it_is():
    assert kit_of(DOTPROD).dot == "neon" and kit_of(NEON).dot == "none"
    assert kit_of(NEON).fused


def runs_here(dot):
    if dot == "vnni256":  # the instruction of AVX-VNNI, or that of AVX-512 with half its vectors
        return HOST.get("avxvnni") or (HOST.get("avx512vnni") and HOST.get("avx512vl"))
    return all(HOST.get(name) for name in KITS[dot] if name not in ("neon", "dotprod"))


def native(code, name):
    """The function of LLVM's code, and what must live as long as it does."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = ",".join(f"{'+' if on else '-'}{feature}" for feature, on in HOST.items())
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3
    )
    compiled = binding.create_mcjit_compiler(optimized(code, machine), machine)
    compiled.finalize_object()
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(ARGUMENTS))
    return kind(compiled.get_function_address(name)), compiled


def run(function, storage, panels, x, small, bias):
    """The outputs of a product."""
    out = np.zeros((len(x), bias.size), dtype=np.float32)
    places = dict(zip(("x", "int8", "scales", "sums"), (x, *small), strict=True))
    places |= {"panels": panels, "bias": bias, "out": out}
    given = {name: array.ctypes.data for name, array in places.items()}
    given |= {"storage": int(storage), "panel_step": panel_bytes(storage, x.shape[1])}
    given |= {"count": bias.size // 16, "blocks": x.shape[1] // 32, "tokens": len(x)}
    given |= {"x_step": x.shape[1], "int8_step": x.shape[1]}
    given |= {"bias_step": 16, "out_step": bias.size}
    function(*(given[name] for name in ARGUMENTS))
    return out


@pytest.mark.skipif(not HOST.get("fma"), reason="this processor rounds differently")
@pytest.mark.parametrize(("storage", "integers"), KINDS)
@pytest.mark.parametrize("dot", KITS)
def test_all_have_the_bits_of_the_plain_loops_whatever_the_numbers(dot, storage, integers):
    if not runs_here(dot):
        pytest.skip("this processor lacks the instructions")
    assert kit_of(KITS[dot]).dot == dot
    code, name = code_of(storage, integers, KITS[dot])
    declared = re.search(rf'declare [^\n]*"{re.escape(SDOT)}"[^\n]*', code)
    assert bool(declared) == (integers and dot == "neon")
    if declared:
        code = code.replace(declared[0], SDOT_AS_A_FUNCTION).replace(SDOT, "software_sdot")
    function, _alive = native(code, name)
    matrix, _ = random_matrix(storage, 32, 96)
    if isinstance(matrix, Blocks):  # the largest sums of integers
        matrix.u[3], matrix.u[4] = 255 if matrix.m is None else 15, 0
    panels, bias = stored(matrix, storage, 32, 96), np.ones(32, dtype=np.float32)
    x = np.random.default_rng(3).standard_normal((15, 96)).astype(np.float32)
    x[1], x[2], x[3] = 1, -1, np.where(np.arange(96) % 3, 1, -1)
    small = rounded(x)
    found = run(function, storage, panels, x, small, bias)
    assert np.array_equal(found, product(storage, integers, True, panels, x, small, bias))
