"""Other machines: what their makers' data sheets promise, as of November 2026.

Nothing of it was measured here, so all that follows from it is an estimate.
"""

from dataclasses import dataclass

from ..config.planning import MachineName
from ..errors import ConfigError
from ..machine import memory_size
from .experience import Experience, known_speed, read_experience
from .probe import Speed

AS_OF = "2026-11"

GB, TERA = 10**9, 10**12


@dataclass(frozen=True)
class Sheet:
    """A data sheet."""

    title: str
    memory: float
    """Bytes, of the GPU if it is one."""
    bandwidth: float
    """Bytes a second."""
    float32: float
    """Operations a second of products in float32."""
    bfloat16: float
    """The same in bfloat16, or in float16 without it; no sparsity."""
    watts: float
    interpreter: float
    """Rounds a second of `probe`'s loop in Python, of the host."""


SHEETS: dict[str, Sheet] = {
    "t4": Sheet("NVIDIA T4, 16 GB", 16 * GB, 320e9, 8.1 * TERA, 65 * TERA, 70, 1500),
    "l4": Sheet("NVIDIA L4, 24 GB", 24 * GB, 300e9, 30.3 * TERA, 121 * TERA, 72, 2000),
    "a100": Sheet("NVIDIA A100, 80 GB (SXM)", 80 * GB, 2039e9, 19.5 * TERA, 312 * TERA, 400, 1800),
    "h100": Sheet("NVIDIA H100, 80 GB (SXM)", 80 * GB, 3350e9, 67 * TERA, 989 * TERA, 700, 2000),
    "rpi5": Sheet("Raspberry Pi 5, 8 GB", 8 * GB, 17e9, 0.15 * TERA, 0.08 * TERA, 12, 700),
    "m2": Sheet(
        "Apple M2, 16 GB (its processor)", 16 * GB, 100e9, 0.45 * TERA, 0.3 * TERA, 25, 2200
    ),
}
"""By the name of --machine."""

GPUS = ("t4", "l4", "a100", "h100")

ACHIEVED_PRODUCTS, ACHIEVED_BANDWIDTH = 0.7, 0.75
"""Of the promised numbers, what large products and long copies reach."""


@dataclass(frozen=True)
class Machine:
    """A machine that something is planned for."""

    name: MachineName
    title: str
    memory: float | None
    """Bytes; None if the system does not say."""
    speed: Speed
    experience: Experience
    watts: float | None = None

    @property
    def auto_dtype(self) -> str:
        """What `--dtype auto` becomes on it; "auto" where it is measured."""
        if not self.estimated:
            return "auto"
        return "mixed_bfloat16" if self.name in ("l4", "a100", "h100") else "float32"

    @property
    def estimated(self) -> bool:
        """Whether its speed is a data sheet's, and not measured."""
        return self.name != "here"


def machine_of(name: MachineName, *, anew: bool = False) -> Machine:
    """The machine of a name.

    Args:
        name: As --machine takes it.
        anew: Whether this machine is measured even if it was lately.

    Returns:
        The machine. "here" is measured, which takes two seconds.

    Raises:
        ConfigError: There is no such machine.
    """
    if name == "here":
        speed = known_speed(anew=anew)
        return Machine(name, "this machine", memory_size(), speed, read_experience())
    if name not in SHEETS:
        raise ConfigError(f"machine={name!r:.40}: choose here, {', '.join(SHEETS)}")
    sheet = SHEETS[name]
    speed = Speed(
        ACHIEVED_PRODUCTS * sheet.float32,
        ACHIEVED_PRODUCTS * sheet.bfloat16,
        ACHIEVED_BANDWIDTH * sheet.bandwidth,
        ACHIEVED_BANDWIDTH * sheet.bandwidth,
        sheet.interpreter,
    )
    return Machine(name, sheet.title, sheet.memory, speed, Experience(), sheet.watts)
