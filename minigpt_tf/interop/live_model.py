"""A Keras model in memory and its tokenizer -> text, or a model folder; and back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import MODEL_NAME, EngineConfig, ModelConfig
from ..errors import ModelFolderError
from ..inference.engine import Engine
from ..inference.generate import TextGenerator
from ..inference.weights import weight_shapes
from ..metrics import log_softmax
from ..storage.model_folder import check_output
from ..text.tokenizers import BaseTokenizer, as_tokenizer
from .keras_files.files import open_keras_file
from .keras_files.layer_weights import live_weights, shapes_of
from .keras_files.read_keras import source_of, start_ids
from .keras_files.recognition import Recognized, recognize
from .source import write_model_folder

if TYPE_CHECKING:
    import keras

CHECKED_TOKENS = 32
"""Length of the sequence for which Keras and the engine must give the same."""

TOLERANCE = 1e-3
"""Largest difference of their log-probabilities, for log-probabilities up to 10 in size."""

LOW_PRECISION_TOLERANCE = 0.5
"""The same where Keras computes in bfloat16 or float16, which the engine never does."""

WHERE = "the model"
"""Names a model in memory in errors."""


def save_model_folder(
    model: "keras.Model", tokenizer: Any, out: str | Path, *, overwrite: bool = False
) -> Path:
    """Writes a model that was trained in a notebook as a model folder, for every command to use.

    What Keras and the engine make of the same ids is compared first, and every weight is read back.

    Args:
        model: of `build_gpt_model`, or of Keras's layers in the lecture's order.
        tokenizer: the one it was trained with: a `Tokenizer`, ours or Keras's, or the path of a
            tokenizer.pkl.
        out: the folder, such as "models/mine".
        overwrite: whether to replace a model folder.

    Returns:
        The folder's path.

    Raises:
        ModelFolderError: the engine cannot run the model (it says which layer and why), the
            tokenizer belongs to another model, or the folder exists; then nothing has changed.
        DataError: the tokenizer is none.

    Example:
        >>> import minigpt_tf as mg, tempfile
        >>> tokenizer = mg.Tokenizer()
        >>> tokenizer.fit_on_texts(["who is hardy"])
        >>> model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = mg.save_model_folder(model, tokenizer, folder + "/mine")
        ...     mg.load(folder + "/mine").keras_model().count_params() == model.count_params()
        True
    """
    out, tokenizer = Path(out), as_tokenizer(tokenizer)
    check_output(out, overwrite=overwrite, resume=False)
    recognized, weights = read_live_model(model)
    check_tokenizer(tokenizer, recognized.config)
    _check_engine(model, recognized, weights)
    variables = live_weights(model)
    source = source_of(
        recognized,
        lambda path, index: variables[path][index].numpy(),
        tokenizer,
        where=WHERE,
        origin={"format": "a Keras model in memory"},
    )
    write_model_folder(source, out, overwrite=overwrite)
    return out


def generate_text(model: "keras.Model", tokenizer: Any, prompt: str, **sampling: Any) -> str:
    """The prompt and how a Keras model continues it, by the engine.

    Args:
        model: as for `save_model_folder`.
        tokenizer: as there.
        prompt: a text, such as "who is Hardy".
        sampling: fields of SamplingConfig, such as `temperature=0.8`, `top_k=40`, `greedy=True`,
            `max_new_tokens=60`, `seed=1`.

    Returns:
        The prompt and its continuation.

    Raises:
        ModelFolderError: the engine cannot run the model, or the tokenizer belongs to another one.
        ConfigError: a setting is unknown or out of range.

    Example:
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.Tokenizer()
        >>> tokenizer.fit_on_texts(["who is hardy"])
        >>> model = mg.build_gpt_model(4, 8, embed_dim=8, num_heads=2, ff_dim=8, num_layers=1)
        >>> mg.generate_text(model, tokenizer, "who is", max_new_tokens=5).startswith("who is ")
        True
    """
    tokenizer = as_tokenizer(tokenizer)
    recognized, weights = read_live_model(model)
    check_tokenizer(tokenizer, recognized.config)
    engine = Engine(recognized.config, weights, WHERE)
    answer = TextGenerator(engine, tokenizer, start_ids(tokenizer)).generate(prompt, **sampling)
    return prompt + answer.text


class LoadedModel(TextGenerator):
    """What `load` returns: a TextGenerator that can also give its Keras model."""

    path: Path

    def keras_model(self) -> "keras.Model":
        """The Keras model of the folder, in float32 and not compiled; imports TensorFlow.

        Raises:
            ModelFolderError: model.h5 is damaged, or not one of the layers known here.
        """
        file = self.path / MODEL_NAME
        recognize(open_keras_file(file).description, where=str(file))  # runs no code
        import keras

        from .. import model  # noqa: F401 - registers the layers

        return keras.models.load_model(file, compile=False)


def load(folder: str | Path, config: EngineConfig | None = None) -> LoadedModel:
    """Reads a model folder, without TensorFlow.

    Args:
        folder: such as "models/mine".
        config: how the engine runs it (unset: float32, all cores).

    Returns:
        What `generate`, `stream` and `conversation` belong to, and `keras_model()`.

    Raises:
        ModelFolderError: the folder is missing or damaged.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.load("models/ramanujan").generate("who is Hardy", temperature=0.7)  # doctest: +SKIP
    """
    loaded = LoadedModel.load(folder, config)
    loaded.path = Path(folder)
    return loaded


def read_live_model(model: "keras.Model") -> tuple[Recognized, dict[str, np.ndarray]]:
    """What a Keras model is, and its weights.

    Args:
        model: of `build_gpt_model`, or of Keras's layers in the lecture's order.

    Returns:
        What its layers say, and a copy of the weights by the names of `inference.weights`.

    Raises:
        ModelFolderError: it is not a Keras model, or not one that the engine runs.
    """
    if not hasattr(model, "to_json") or not hasattr(model, "layers"):
        raise ModelFolderError(
            f"{type(model).__name__} is not a Keras model: give the model itself, such as "
            "build_gpt_model returns"
        )
    variables = live_weights(model)
    recognized = recognize(json.loads(model.to_json()), shapes_of(variables), where=WHERE)
    weights = {
        name: recognized.weight(name, lambda path, index: variables[path][index].numpy())
        for name in weight_shapes(recognized.config)
    }
    return recognized, weights


def check_tokenizer(tokenizer: BaseTokenizer, config: ModelConfig) -> None:
    """Checks that a tokenizer is the model's.

    Args:
        tokenizer: Gives the ids.
        config: The model that gets them.

    Raises:
        ModelFolderError: The model knows fewer ids, or not as many as a tokenizer with a bound.
    """
    ids, knows = tokenizer.vocab_size, config.vocab_size
    if ids > knows or (getattr(tokenizer, "num_words", None) and ids != knows):
        raise ModelFolderError(
            f"the tokenizer has {ids} ids and the model knows {knows}: they do not belong together "
            f"(build the model with vocab_size={ids})"
        )


def _check_engine(
    model: "keras.Model", recognized: Recognized, weights: dict[str, np.ndarray]
) -> None:
    """Raises ModelFolderError where the engine does not compute what the model does: a layer of
    one's own may be another than its name says."""
    config = recognized.config
    ids = np.arange(min(config.context_length, CHECKED_TOKENS)) % config.vocab_size  # (T,)
    given = np.asarray(model.predict(ids[None], verbose=0)[0])  # (T, V)
    if recognized.head == "softmax":
        given = np.log(np.maximum(given, np.finfo(np.float32).tiny))
    found = log_softmax(Engine(config, weights, WHERE).all_logits(ids))
    given = log_softmax(given)
    likely = np.maximum(given, found) > -20  # float32's probabilities have no more digits
    difference = float(np.abs(given - found)[likely].max())
    if not difference <= (TOLERANCE if _is_float32(model) else LOW_PRECISION_TOLERANCE):
        said = "; ".join(recognized.assumptions)
        raise ModelFolderError(
            f"{WHERE}: it computes something else than its layers say (log-probabilities differ by "
            f"{difference:.2g}){': ' + said if said else ''}"
        )


def _is_float32(model: "keras.Model") -> bool:
    """Whether all layers of a model, those of its blocks too, compute in float32."""
    nested = [layer for outer in model.layers for layer in getattr(outer, "layers", ())]
    policies = {layer.compute_dtype for layer in (*model.layers, *nested)}
    return not policies & {"bfloat16", "float16"}
