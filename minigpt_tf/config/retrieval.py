"""How answers are found in records."""

from dataclasses import dataclass

from ..errors import ConfigError
from .settings import check_types, documented, require_at_least, setting


@documented
@dataclass(frozen=True)
class RetrievalConfig:
    """How many entries of the records a prompt gets, and when there is no answer in them.

    Example:
        >>> from minigpt_tf.config import RetrievalConfig
        >>> RetrievalConfig(num_entries=1).min_score
        0.2
    """

    num_entries: int = setting(3, "entries of --records that the model sees with a question")
    min_score: float = setting(
        0.2,
        "how well an entry fits a question, from 0 to 1; where none of --records has as much, the "
        "model is not asked and the answer says that the records do not contain it",
    )

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(self, "num_entries", 1)
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"min_score={self.min_score}: expected a number from 0 to 1")
