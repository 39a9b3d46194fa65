"""The Keras model. Importing this room registers its layers for keras.models.load_model."""

from .gpt import build_gpt_model, build_training_model, transformer_block
from .keras_model import Model
from .layers import PositionalEncoding, PositionEmbedding, RotaryAttention

__all__ = [
    "Model",
    "PositionEmbedding",
    "PositionalEncoding",
    "RotaryAttention",
    "build_gpt_model",
    "build_training_model",
    "transformer_block",
]
