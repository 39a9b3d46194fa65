"""The errors a person can meet. The command line prints them in one line and exits with 2."""


class MiniGPTError(Exception):
    """Base of all errors of this package: the message says what is wrong, where and what to do."""


class ConfigError(MiniGPTError):
    """A setting is impossible, or two settings contradict each other."""


class DataError(MiniGPTError):
    """A text, a folder of texts or a tokenizer file cannot be used."""


class ModelFolderError(MiniGPTError):
    """A model folder or one of its files is missing, damaged, foreign or in the way."""


class TrainingError(MiniGPTError):
    """Training cannot go on: the loss is not finite, or what is to be resumed differs."""
