"""The errors a person can meet. The command line prints them in one line and exits with 2."""


class MiniGPTError(Exception):
    """Base of all errors of this package: the message says what is wrong, where and what to do.

    Example:
        >>> import minigpt_tf as mg
        >>> try:
        ...     mg.load("models/none")
        ... except mg.MiniGPTError as error:
        ...     print(error)
        models/none: no such model folder
    """


class ConfigError(MiniGPTError):
    """A setting is impossible, or two settings contradict each other.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.SamplingConfig(top_p=2.0)
        Traceback (most recent call last):
        minigpt_tf.errors.ConfigError: top_p=2.0: must be above 0 and at most 1
    """


class DataError(MiniGPTError):
    """A text, a folder of texts or a tokenizer file cannot be used.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.read_documents("no.txt")
        Traceback (most recent call last):
        minigpt_tf.errors.DataError: no.txt: no such file or folder
    """


class ModelFolderError(MiniGPTError):
    """A model folder or one of its files is missing, damaged, of another tool, or in the way.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.load_folder("models/none")
        Traceback (most recent call last):
        minigpt_tf.errors.ModelFolderError: models/none: no such model folder
    """


class TrainingError(MiniGPTError):
    """Training cannot continue: the loss is not finite, or the run to resume is a different one.

    Example:
        >>> import minigpt_tf as mg
        >>> try:  # with a learning rate that is much too high
        ...     raise mg.TrainingError("the loss is nan at step 3")
        ... except mg.MiniGPTError as error:
        ...     print(error)
        the loss is nan at step 3
    """
