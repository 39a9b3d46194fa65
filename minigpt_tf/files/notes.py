"""What a reader left out of a file, or took for something else: counted, with the first place."""

import re
from dataclasses import dataclass, field

MOST_NAMES = 4
"""So many of the things left out are quoted, and of the places where something looks wrong."""

_FOLLOWS = re.compile(" (?:of|with|without|above|under|behind|that|whose|in|but) ")


def counted(number: int, what: str) -> str:
    """A number of things: 1 row, 2 rows, 3 entries.

    Args:
        number: How many.
        what: The name of one; behind of, with and the like it stays as it is.

    Returns:
        The number and the name in the right form.

    Example:
        >>> counted(3, "entry of a list")
        '3 entries of a list'
    """
    found = _FOLLOWS.search(what)
    head, rest = (what[: found.start()], what[found.start() :]) if found else (what, "")
    if number != 1:
        ending = head[-2:]
        if ending[1:] == "y" and ending[0] not in "aeiou":
            head = f"{head[:-1]}ies"
        else:
            head += "es" if ending[1:] in "sx" or ending in ("ch", "sh") else "s"
    return f"{number:,} {head}{rest}"


@dataclass
class Notes:
    """What one reader has to say of one file, beside its text."""

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, what: str, number: int = 1, *, place: str = "", name: str = "") -> None:
        """Counts something that is not in the text.

        Args:
            what: The name of one of them, such as "comment".
            number: How many.
            place: Where it is, such as "line 3"; the first is kept.
            name: What it says or is called; the first few are quoted.
        """
        if not number:
            return
        self.counts[what] = self.counts.get(what, 0) + number
        if place:
            self.places.setdefault(what, place)
        names = self.names.setdefault(what, [])
        if name and len(names) < MOST_NAMES:
            names.append(name)

    def remark(self, text: str, place: str = "") -> None:
        """Adds a sentence, once.

        Args:
            text: What a person should know of the file.
            place: Where that is; the first few are named.
        """
        self.remarks.setdefault(text, []).append(place)

    def lines(self) -> tuple[str, ...]:
        """All of it, for a report.

        Returns:
            A line for what is left out, and one for each remark.
        """
        found = []
        for what, number in self.counts.items():
            names = ", ".join(f"{name!r:.40}" for name in self.names.get(what, []))
            if names and number > MOST_NAMES:
                names += ", ..."
            place = self.places.get(what, "")
            if place and number > 1:
                place = f"the first in {place}"
            about = "; ".join(filter(None, [names, place]))
            found.append(counted(number, what) + (f" ({about})" if about else ""))
        said = [f"{_listed(places)}{text}" for text, places in self.remarks.items()]
        return (*([f"left out: {', '.join(found)}"] if found else []), *said)


def _listed(places: list[str]) -> str:
    """Some places, as the beginning of a remark."""
    named = list(filter(None, places))
    if not named:
        return ""
    more = f" and {len(named) - MOST_NAMES:,} more" if len(named) > MOST_NAMES else ""
    return f"{', '.join(named[:MOST_NAMES])}{more}: "
