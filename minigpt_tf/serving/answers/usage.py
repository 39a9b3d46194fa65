"""How many tokens a request took."""

from collections.abc import Iterable, Sequence
from typing import Any

from ...inference.requests import Request
from ..engine.tickets import Ticket


def usage_of(tickets: Sequence[Ticket]) -> dict[str, Any]:
    """The tokens of prompts and answers; a prompt with several answers counts once.

    Args:
        tickets: Of one request.

    Returns:
        OpenAI's object.
    """
    of_prompt: dict[int, list[Request]] = {}
    for ticket in tickets:
        of_prompt.setdefault(id(ticket.request.prompt), []).append(ticket.request)
    prompt = sum(len(requests[0].prompt.ids) for requests in of_prompt.values())
    # Of several answers to a prompt, all but one have it from the first.
    cached = sum(min(r.cached_tokens for r in requests) for requests in of_prompt.values())
    completion = sum(ticket.tokens for ticket in tickets)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": min(cached, prompt)},
    }


def facts_of(tickets: Sequence[Ticket]) -> dict[str, Any]:
    """What the log has of answers.

    Args:
        tickets: Of one request.

    Returns:
        Counts and times.
    """
    usage = usage_of(tickets)
    firsts = [ticket.first - ticket.asked for ticket in tickets if ticket.first is not None]
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "first_token_seconds": round(min(firsts), 4) if firsts else None,
        "finish": ",".join(sorted({_end_of(ticket) for ticket in tickets})),
    }


def _end_of(ticket: Ticket) -> str:
    if ticket.error is not None:
        return "error"
    return ticket.generation.finish_reason if ticket.generation else "canceled"


def header_of(notices: Iterable[str]) -> dict[str, str]:
    """Notices about a prompt as a header of the response.

    Args:
        notices: Sentences.

    Returns:
        X-Notice, in ASCII; nothing if there are none.
    """
    text = "; ".join(notices).encode("ascii", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else " " for c in text)
    return {"X-Notice": text[:2000]} if text else {}
