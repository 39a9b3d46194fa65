"""Products and logits with the kernels that MINIGPT_KERNELS names, in a process of their own.

python -m tests.inference.products_of_a_choice RESULT.npz
"""

import sys

import numpy as np

from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.weight_layout import lay_out_weights
from minigpt_tf.machine import chosen_kernels, plain_loops
from tests.conftest import tiny_config
from tests.inference.exact_weights import random_weights
from tests.inference.test_products import KINDS, product, random_matrix, rounded, stored


def products():
    random = np.random.default_rng(3)
    for storage, integers in KINDS:
        matrix, _ = random_matrix(storage, 32, 96)
        panels, bias = stored(matrix, storage, 32, 96), np.ones(32, dtype=np.float32)
        x = random.standard_normal((15, 96)).astype(np.float32)
        name = f"{storage.name.lower()}_{'int8' if integers else 'float32'}"
        yield name, product(storage, integers, plain_loops(), panels, x, rounded(x), bias)


def logits():
    config = tiny_config("modern", vocab_size=40, context_length=24)
    weights = random_weights(config)
    for quantize in ("none", "int8"):
        engine = Engine(config, lay_out_weights(weights, config, "test", quantize), threads=2)
        yield f"logits_{quantize}", engine.all_logits(np.arange(20))


if __name__ == "__main__":
    np.savez(sys.argv[1], kernels=chosen_kernels(), **dict(products()), **dict(logits()))
