"""Largest differences of logits: saved model, plain Keras in a fresh process, and the engine.

    python benchmarks/agreement.py [--model models/ramanujan]

For each preset a model with random weights is built and saved in this process; a fresh process
loads the .h5 by keras.models.load_model alone, another computes with the engine and without
TensorFlow. With --model also for that folder, against a model built anew from its weights.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from minigpt_tf.config import MODEL_NAME, ModelConfig
from minigpt_tf.config.presets import PRESETS, model_preset
from minigpt_tf.inference.folder import describe_model, load_folder
from minigpt_tf.inference.weights import assign_weights, read_weights
from minigpt_tf.model import build_gpt_model
from minigpt_tf.storage.json_files import write_json
from minigpt_tf.text.tokenizers import CharTokenizer

PLAIN_KERAS = """
import sys, keras, numpy as np, minigpt_tf.model
model = keras.models.load_model(sys.argv[1] + "/model.h5")
np.save(sys.argv[3], np.asarray(model(np.load(sys.argv[2])[None]))[0])
"""

ENGINE = """
import sys, json, numpy as np
from minigpt_tf import Engine, ModelConfig
from minigpt_tf.inference.weights import read_weights
config = ModelConfig(**json.load(open(sys.argv[1] + "/config.json"))["model"])
engine = Engine(config, read_weights(sys.argv[1] + "/model.h5", config))
np.save(sys.argv[3], engine.all_logits(np.load(sys.argv[2])))
assert "tensorflow" not in sys.modules
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="also this model folder")
    arguments = parser.parse_args()
    print(f"{'model':<28}{'largest logit':>14}{'fresh Keras':>14}{'engine':>14}")
    with tempfile.TemporaryDirectory() as scratch:
        for name in PRESETS:
            folder = Path(scratch) / name
            folder.mkdir()
            config = model_preset(name)
            model = build_gpt_model(config, seed=0)
            model.save(folder / MODEL_NAME)
            write_json(folder / "config.json", describe_model(config, CharTokenizer("a"), [0]))
            compare(name, folder, model, config, Path(scratch))
        if arguments.model:
            config = load_folder(arguments.model).model
            model = build_gpt_model(config)
            assign_weights(model, read_weights(arguments.model / MODEL_NAME, config))
            compare(str(arguments.model), arguments.model, model, config, Path(scratch))


def compare(
    name: str, folder: Path, model: keras.Model, config: ModelConfig, scratch: Path
) -> None:
    length = min(config.context_length, 200)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, length)
    np.save(scratch / "ids.npy", ids)
    logits = keras.ops.convert_to_numpy(model(ids[None]))[0]
    row = f"{name:<28}{np.abs(logits).max():>14.2f}"
    for code in (PLAIN_KERAS, ENGINE):
        paths = [str(folder), str(scratch / "ids.npy"), str(scratch / "logits.npy")]
        subprocess.run([sys.executable, "-c", code, *paths], check=True, stderr=subprocess.DEVNULL)
        row += f"{np.abs(np.load(scratch / 'logits.npy') - logits).max():>14.1e}"
    print(row)


if __name__ == "__main__":
    main()
