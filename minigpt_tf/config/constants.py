"""Names of files, sizes and bounds that are not settings."""

MODELS_DIRECTORY = "models"
MODEL_NAME = "model.h5"
CONFIG_NAME = "config.json"
CHECKPOINT_NAME = "checkpoint"
RUN_NAME = "run.json"
"""Names in a model folder (see `storage.model_folder`); RUN_NAME lies in the checkpoint."""

WINDOW_SIZE = 32
"""Tokens in a window of `create_dataset`, by default: the lecture's."""

KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
"""Endings of Keras's model files."""

CACHE_NAME = "minigpt_tf"
"""In the user's cache folder: where downloads and tokenized texts are kept (`storage.cache`)."""

CACHE_DAYS = 30
"""Entries of the cache that were not used for so long are removed."""

MOST_DOWNLOAD_BYTES = 1 << 30
"""Size of a text that is downloaded by its URL (`files.download`): at most 1 GiB."""

ATTENTION_BLOCKS_FROM = 512
"""Tokens from which attention is trained in blocks (`model.causal_attention`). Measured on an AMD
EPYC, four layers of 12 heads of 64, bfloat16: 0.91 of the speed at 256, 1.15 at 512, 1.3 at 1024,
1.4 at 4096."""

FORMAT_VERSION = 1
"""Version of the model folder's layout. A folder of a newer version is refused."""

WORD_TOKENIZER_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
"""Characters that Keras's Tokenizer turns into spaces."""

OOV_TOKEN = "<OOV>"
"""What an unknown word becomes; always id 1, as in Keras's Tokenizer."""

CHAT_TOKENS = 512
"""Length of a chat model's answer at most, in tokens, by default: such models end their
answers themselves."""

ANSWER_TOKENS = 80
"""Length of an answer at most, in tokens, where models are asked side by side, unless another
is given."""

USEFUL_THREADS = 8
"""More threads do not read memory faster when decoding, and wait longer for each other."""

MOST_EVALUATION_TOKENS = 2**17
"""Tokens of the validation set that are scored at each evaluation, by default."""

ATTENTION_PROJECTIONS = ("query", "key", "value", "attention_output")
LORA_TARGETS = (
    *ATTENTION_PROJECTIONS,
    "feed_forward_gate",
    "feed_forward_up",
    "feed_forward_down",
)
"""Layers of a block that LoRA can change."""

MOST_LAYERS = 10_000
MOST_THREADS = 256
"""Bounds that no sensible setting reaches; beyond them numbers overflow and loops do not end."""

MOST_GUESSES = 11
"""Tokens that may be guessed at a time; with the one before, they fill a tile of the products."""

LLAMA3_SCALING = ("low_freq_factor", "high_freq_factor", "original_context_length")
"""What `rope_scaling` holds beside its factor, in Llama 3's kind."""

EXPORTS_DIRECTORY = "exports"
"""Where exported models go, by default."""

EXPORT_DTYPES = {
    "hf": ("f32", "f16", "bf16"),
    "gguf": ("f32", "f16", "q8_0"),
    "keras": ("f32",),
    "h5": ("f32",),
    "onnx": ("f32",),
    "tflite": ("f32", "int8"),
    "litert": ("f32", "int8"),
    "c": ("f32", "q8_0"),
    "web": ("f32", "q8_0"),
    "bundle": ("f32", "q8_0"),
}
"""The types of numbers that a format can hold a model's weights in."""

SIZED_FORMATS = ("tflite", "litert")
"""Formats of export whose keys and values have a fixed size."""

END_OF_TEXT = "<|endoftext|>"
"""Separates documents in the byte-level tokenizers (GPT-2's token 50256)."""
