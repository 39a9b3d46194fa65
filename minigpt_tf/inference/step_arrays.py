"""The arrays that a step of decoding takes, and how its matrices are numbered.

D, F and H stand for sizes that are filled up with zeros to whole blocks of 32 (`panels`): so no
product has an end that needs other code. Arrays are contiguous, and float32 unless said otherwise.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ..config import ModelConfig
from .blocks import BLOCK
from .panels import LANES, padded


class BlockMatrix(IntEnum):
    """The matrices of a block, in the order in which they are used and stored."""

    QKV = 0  # query, key and value
    OUT = 1  # attention output
    GATE = 2  # of a gated feed-forward; without it this matrix has no rows
    UP = 3
    DOWN = 4


MATRICES_OF_A_BLOCK = len(BlockMatrix)


def first_matrix(layer):
    """Where the first matrix of a block is among all: before the blocks, the token embedding."""
    return 1 + MATRICES_OF_A_BLOCK * layer


SCORE_ROWS = 12
"""Tokens whose scores of a head are computed together."""


class Matrices(NamedTuple):
    """The matrices of a model, as in `weight_layout.EngineWeights`."""

    panels: np.ndarray  # of all matrices one after the other, uint8
    biases: np.ndarray  # of each row of a matrix
    layout: np.ndarray  # (matrices, len(Place)) int64


class Place(IntEnum):
    """What `Matrices.layout` says of a matrix."""

    START = 0  # in `panels`
    ROW = 1  # its first one in `biases`
    OUTPUTS = 2
    INPUTS = 3
    STORAGE = 4
    STEP = 5  # bytes from one panel to the next


class LayerKind(IntEnum):
    """Which tokens a layer sees, and whether it rotates: the letters of ModelConfig's pattern."""

    G = 0
    L = 1
    N = 2


class StepWeights(NamedTuple):
    """The weights of a model, and its constants."""

    matrices: Matrices
    norms: np.ndarray  # (norms, 2, D): scale and shift, in the order of their use
    head_norms: np.ndarray  # (L, N + K, H): scales of queries and keys; (0, 0, 0) without
    embed_dim: int  # D without the filling
    head_dim: int  # H without the filling
    epsilon: np.float32  # added to the variance in the norms
    cosines: np.ndarray  # (C, H / 2) of the rotary angles; (0, 0) without
    sines: np.ndarray
    local_cosines: np.ndarray  # the same of layers with a window
    local_sines: np.ndarray
    kinds: np.ndarray  # (L,) int64: LayerKind of each layer
    window: int  # tokens that such layers see
    attention_softcap: np.float32
    logits_softcap: np.float32


class Tokens(NamedTuple):
    """The B tokens of a step."""

    embedded: np.ndarray  # (B, D)
    rows: np.ndarray  # (B,) int64: the sequences of the cache that they belong to
    positions: np.ndarray  # (B,) int64: their positions in those
    num_logits: int  # logits are given for this many of them, the last ones


class KeysValues(NamedTuple):
    """The arrays of a `key_value_cache.Cache`: panels, as of matrices."""

    keys: np.ndarray  # (sequences, L, K, C / 16, H, 16): an output is a position, an input of H
    values: (
        np.ndarray
    )  # (sequences, L, K, H / 16, C, 16): an output is one of H, an input a position


class Quantized(NamedTuple):
    """The inputs of a product as int8, one row a token: of each thread, or of one."""

    values: np.ndarray  # (threads, B, inputs) int8
    scales: np.ndarray  # (threads, B, inputs / 32): of each block
    sums: np.ndarray  # (threads, B, inputs / 32) int32: of a block's values


class Scratch(NamedTuple):
    """The arrays in which a step for at most B tokens works."""

    x: np.ndarray  # (threads, B, D): the residual stream; each thread has its own
    normal: np.ndarray  # (threads, B, D): its norm
    quantized: Quantized
    scores: np.ndarray  # (threads, SCORE_ROWS, C): of one head's attention
    qkv: np.ndarray  # (B, (N + 2 K) H): query, key and value, for all threads
    heads: np.ndarray  # (B, N + 2 K, H): the same memory
    mixed: np.ndarray  # (B, N H): values, weighted by attention
    delta: np.ndarray  # (B, D): what a sublayer adds to the residual stream
    gate: np.ndarray  # (B, F), or (B, 0) without a gate
    up: np.ndarray  # (B, F)
    logits: np.ndarray  # (num_logits, V)
    zeros: np.ndarray  # (LANES,): the biases of a product without
    squares: np.ndarray  # (B, N + 2 K): sums of squares of each head, for norms of all together


def new_scratch(
    config: ModelConfig, threads: int, tokens: int, integers: bool, logits: np.ndarray | None
) -> Scratch:
    """Arrays for a step.

    Args:
        config: Architecture of the model.
        threads: That compute.
        tokens: At most so many in a step.
        integers: Whether products take their inputs as int8.
        logits: The array for logits; None: a new one for one token.

    Returns:
        The arrays.
    """
    c = config
    heads, H = c.num_heads + 2 * c.num_kv_heads, padded(c.head_dim)
    D, F, N = padded(c.embed_dim), padded(c.ff_dim), c.num_heads
    inputs = max(D, F, N * H)
    shapes = {
        "x": (threads, tokens, D),
        "normal": (threads, tokens, D),
        "scores": (threads, SCORE_ROWS, padded(c.context_length)),
        "qkv": (tokens, heads * H),
        "mixed": (tokens, N * H),
        "delta": (tokens, D),
        "gate": (tokens, F if c.gated else 0),
        "squares": (tokens, heads),
        "up": (tokens, F),
        "zeros": (LANES,),
    }
    arrays = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    if logits is None:
        logits = np.zeros((1, padded(c.vocab_size)), dtype=np.float32)
    shape = (threads, tokens if integers else 1, inputs)
    of_blocks = (*shape[:2], inputs // BLOCK)
    quantized = Quantized(
        np.zeros(shape, dtype=np.int8),
        np.zeros(of_blocks, dtype=np.float32),
        np.zeros(of_blocks, dtype=np.int32),
    )
    of_heads = arrays["qkv"].reshape(tokens, heads, H)
    return Scratch(**arrays, quantized=quantized, heads=of_heads, logits=logits)


class Switches(NamedTuple):
    """What of a model the compiled step is made for."""

    activation: str
    centered: bool  # the norms are layer normalization
    norm_placement: str
    rotary: bool
    qk_norm: str = "none"
    layered: bool = False  # layers differ in what they see
    attention_capped: bool = False
    logits_capped: bool = False

    @classmethod
    def of(cls, config: ModelConfig) -> "Switches":
        """Those of a model.

        Args:
            config: Its architecture.

        Returns:
            The switches.
        """
        return cls(
            config.activation,
            config.norm == "layer",
            config.norm_placement,
            config.positions == "rotary",
            config.qk_norm,
            set(config.layer_pattern) != {"G"},
            config.attention_softcap is not None,
            config.logits_softcap is not None,
        )
