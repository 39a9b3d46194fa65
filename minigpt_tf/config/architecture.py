"""The switches of a model."""

from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError
from .constants import LLAMA3_SCALING, MOST_LAYERS
from .settings import (
    LARGEST_INTEGER,
    accepts_old_names,
    check_types,
    documented,
    require_at_least,
    setting,
)

LAYER_KINDS = {"G": "all tokens", "L": "a window", "N": "all tokens, no rotation"}
"""Letters of a layer pattern."""

GATES = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh"}
"""Activations of a gated feed-forward layer -> what its gate goes through."""


@documented
@accepts_old_names
@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a GPT: the switches of `build_gpt_model`.

    `num_kv_heads`, `head_dim` and `ff_dim` may be left None; they are then filled in, so that a
    ModelConfig always has integers.

    Example:
        >>> import minigpt_tf as mg
        >>> config = mg.ModelConfig(embed_dim=64, num_heads=4)
        >>> config.head_dim, config.ff_dim
        (16, 256)
    """

    vocab_size: int = setting(5000, "number of token ids the model knows")
    context_length: int = setting(100, "longest sequence the model sees, in tokens")
    embed_dim: int = setting(256, "width of the residual stream")
    num_layers: int = setting(4, "number of transformer blocks")
    num_heads: int = setting(8, "query heads of each attention layer")
    num_kv_heads: int = setting(None, "key/value heads (unset: num_heads)")
    head_dim: int = setting(None, "width of one head (unset: embed_dim / num_heads)")
    ff_dim: int = setting(None, "width of the feed-forward layer (unset: 4 x embed_dim)")
    dropout: float = setting(0.1, "fraction of activations dropped in training")
    dropout_everywhere: bool = setting(
        True,
        "drop embeddings and attention weights too (GPT-2), or only the outputs of attention and "
        "feed-forward (the lecture)",
        optional_in_files=True,
    )
    positions: Literal["sinusoidal", "learned", "rotary"] = setting(
        "sinusoidal", "how positions are encoded"
    )
    rope_theta: float = setting(10000.0, "base of the rotary angles")
    rope_scaling: dict[str, float] | None = setting(
        None,
        "how rotary angles are stretched for longer contexts: factor alone (linear), or with "
        "low_freq_factor, high_freq_factor and original_context_length (Llama 3); may be repeated",
        optional_in_files=True,
    )
    layer_pattern: str = setting(
        "G",
        "what the layers attend to, repeated over them: G all tokens, L the last --window tokens, "
        "N all tokens without rotation",
        optional_in_files=True,
    )
    window: int | None = setting(
        None, "tokens that layers of the kind L see, their own included", optional_in_files=True
    )
    rope_theta_local: float | None = setting(
        None,
        "base of the rotary angles in layers of the kind L, which are not stretched then (unset: "
        "as in the others)",
        optional_in_files=True,
    )
    qk_norm: Literal["none", "head", "all"] = setting(
        "none",
        "RMS normalization of queries and keys: of each head (Qwen3), or of all together (OLMo 2)",
        optional_in_files=True,
    )
    attention_softcap: float | None = setting(
        None, "bound of the attention scores: c tanh(score / c) (Gemma 2)", optional_in_files=True
    )
    norm: Literal["layer", "rms"] = setting("layer", "layer or RMS normalization")
    norm_placement: Literal["before", "after", "both", "output"] = setting(
        "after",
        "normalize before each sublayer (GPT-2), after the residual sum (2017 paper), before each "
        "sublayer and its output (Gemma), or its output alone (OLMo 2)",
        old_name="norm_first",
        old_values={True: "before", False: "after"},
    )
    norm_epsilon: float = setting(1e-6, "added to the variance in the norms")
    activation: Literal["relu", "gelu", "gelu_tanh", "swiglu", "geglu", "geglu_tanh", "relu2"] = (
        setting(
            "relu",
            "feed-forward activation; gelu_tanh is GPT-2's approximation, relu2 is squared, and "
            "swiglu, geglu and geglu_tanh have a gate",
        )
    )
    use_bias: bool = setting(True, "biases in dense layers and layer norms")
    qkv_bias: bool = setting(True, "biases in the query, key and value projections")
    logits_bias: bool = setting(True, "bias in an untied output head")
    tie_embeddings: bool = setting(False, "output head shares the token embedding's matrix")
    embedding_scale: float = setting(
        1.0, "what token embeddings are multiplied by at the input (Gemma)", optional_in_files=True
    )
    logits_softcap: float | None = setting(
        None, "bound of the logits: c tanh(logit / c) (Gemma 2)", optional_in_files=True
    )

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(self, "vocab_size", 2)
        for name in ("context_length", "embed_dim", "num_layers", "num_heads"):
            require_at_least(self, name, 1)
        if self.num_kv_heads is None:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        if self.head_dim is None:
            if self.embed_dim % self.num_heads:
                raise ConfigError(
                    f"embed_dim={self.embed_dim} does not divide into num_heads={self.num_heads} "
                    "heads: choose a multiple, or give --head-dim"
                )
            object.__setattr__(self, "head_dim", self.embed_dim // self.num_heads)
        if self.ff_dim is None:
            object.__setattr__(self, "ff_dim", 4 * self.embed_dim)
        for name in ("num_kv_heads", "head_dim", "ff_dim"):
            require_at_least(self, name, 1)
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_heads={self.num_heads} is not a multiple of num_kv_heads="
                f"{self.num_kv_heads}: choose both so that it is"
            )
        if self.positions == "sinusoidal" and self.embed_dim % 2:
            raise ConfigError(
                f"embed_dim={self.embed_dim}: sinusoidal positions need an even width"
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise ConfigError(f"head_dim={self.head_dim}: rotary positions need an even head width")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout}: must be at least 0 and below 1")
        if not self.rope_theta > 0:
            raise ConfigError(f"rope_theta={self.rope_theta}: must be a positive number")
        if self.rope_scaling is not None:
            _check_rope_scaling(self.rope_scaling)
        if not 0 < self.norm_epsilon <= 1:
            raise ConfigError(f"norm_epsilon={self.norm_epsilon}: must be above 0 and at most 1")
        if self.num_layers > MOST_LAYERS:
            raise ConfigError(f"num_layers={self.num_layers}: must be at most {MOST_LAYERS}")
        for name in ("attention_softcap", "logits_softcap", "embedding_scale", "rope_theta_local"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={value}: must be a positive number")
        self._check_pattern()

    def _check_pattern(self) -> None:
        pattern = self.layer_pattern
        unknown = sorted(set(pattern) - set(LAYER_KINDS))
        if not pattern or unknown:
            kinds = ", ".join(f"{letter} ({what})" for letter, what in LAYER_KINDS.items())
            raise ConfigError(f"layer_pattern={pattern!r:.60}: expected letters of {kinds}")
        if len(pattern) > self.num_layers:
            raise ConfigError(
                f"layer_pattern={pattern!r:.60} has {len(pattern)} letters: there are only "
                f"{self.num_layers} layers"
            )
        if "N" in pattern and self.positions != "rotary":
            raise ConfigError(
                f"layer_pattern={pattern!r:.60}: N needs positions=rotary, which it leaves out"
            )
        for name in ("window", "rope_theta_local"):
            if "L" not in pattern and getattr(self, name) is not None:
                raise ConfigError(
                    f"{name}={getattr(self, name)}: layer_pattern={pattern!r:.60} has no L"
                )
        if "L" in pattern and self.window is None:
            raise ConfigError(f"layer_pattern={pattern!r:.60}: L needs a window")
        if self.window is not None and not 1 <= self.window <= self.context_length:
            raise ConfigError(
                f"window={self.window}: must be at least 1 and at most context_length="
                f"{self.context_length}"
            )

    @property
    def layer_kinds(self) -> str:
        """The letter of each layer."""
        repeats = -(-self.num_layers // len(self.layer_pattern))
        return (self.layer_pattern * repeats)[: self.num_layers]

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layers have a gate."""
        return self.activation in GATES

    @property
    def has_final_norm(self) -> bool:
        """Whether there is a norm behind the last block."""
        return self.norm_placement != "after"

    @property
    def parameter_count(self) -> int:
        """Trainable parameters of the model, from the sizes alone (equals Keras's count)."""
        D, F, bias = self.embed_dim, self.ff_dim, int(self.use_bias)
        q_width, kv_width = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = D * (q_width + 2 * kv_width) + q_width * D + bias * D
        attention += int(self.qkv_bias) * (q_width + 2 * kv_width)
        attention += {"none": 0, "head": 2 * self.head_dim, "all": q_width + kv_width}[self.qk_norm]
        up_projections = 2 if self.gated else 1
        feed_forward = up_projections * (D * F + bias * F) + F * D + bias * D
        norm = D * (2 if self.norm == "layer" and self.use_bias else 1)
        total = self.num_layers * (
            attention + feed_forward + (4 if self.norm_placement == "both" else 2) * norm
        )
        total += self.vocab_size * D  # token embedding
        total += self.context_length * D if self.positions == "learned" else 0
        total += norm if self.has_final_norm else 0
        if not self.tie_embeddings:
            total += self.vocab_size * (D + int(self.logits_bias))
        return total


def _check_rope_scaling(scaling: dict[str, float]) -> None:
    """Raises ConfigError where the numbers are not those of linear or Llama 3's scaling."""
    names = set(scaling)
    if names not in ({"factor"}, {"factor", *LLAMA3_SCALING}):
        raise ConfigError(
            f"rope_scaling={scaling}: expected factor, and beside it nothing or "
            + ", ".join(LLAMA3_SCALING)
        )
    if not all(0 < value <= LARGEST_INTEGER for value in scaling.values()):
        raise ConfigError(f"rope_scaling={scaling}: expected positive numbers")
    if len(names) > 1 and not scaling["low_freq_factor"] < scaling["high_freq_factor"]:
        raise ConfigError(f"rope_scaling={scaling}: low_freq_factor must be below high_freq_factor")
