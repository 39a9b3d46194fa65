"""Many clients of all kinds for some minutes: texts, statuses, memory, and whether health answers.

60 % stream, 20 % wait for the whole answer, 10 % go in the middle, 5 % ask for nonsense, 5 % read
slowly. All requests are of a fixed set with seeds, whose texts were taken beforehand, one after the
other.
"""

import asyncio
import random
import statistics
import time
from collections import Counter
from typing import Any

from serving_client import Answer, get, post
from serving_servers import Server

WISHES = 40
KINDS = ["stream"] * 12 + ["plain"] * 4 + ["gone"] * 2 + ["wrong", "slow"]
SETTLED = 2.0
"""Minutes after which the memory must not grow."""
MOST_GROWTH = 5 * 2**20
MOST_HEALTH = 0.1


def wish(number: int) -> dict[str, Any]:
    """One of the requests."""
    pick = random.Random(number)
    system = pick.choice(["Be short.", "You answer as a pirate would.", "Name a color first."])
    return {
        "model": "model",
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": f"Number {number}: " + "tell me more " * pick.randrange(9)},
        ],
        "seed": number,
        "temperature": pick.choice([0, 0.8, 1.2]),
        "max_tokens": pick.randrange(4, 32),
        "stop": pick.choice([None, ["."]]),
    }


WRONG: list[tuple[int, dict[str, Any]]] = [
    (400, {"temperature": -1}),
    (400, {"messages": "text"}),
    (400, {"top_logprobs": 50}),
    (404, {"model": "none"}),
    (400, {"messages": [{"role": "user", "content": "a " * 3000}]}),
]


def soak(server: Server, clients: int, minutes: float) -> dict[str, Any]:
    """Runs it, and prints what came of it.

    Args:
        server: Ours.
        clients: How many at a time.
        minutes: How long.

    Returns:
        The figures; "failed" names what is not as it must be.
    """
    return asyncio.run(_soak(server, clients, minutes))


async def _soak(server: Server, clients: int, minutes: float) -> dict[str, Any]:
    alone = []
    for number in range(WISHES):
        alone.append((await post(server.port, {**wish(number), "stream": True})).text)
    counts: Counter[str] = Counter()
    memory: list[tuple[float, int, int]] = []
    health: list[float] = []
    began = time.perf_counter()
    until = began + 60 * minutes
    watching = [
        asyncio.ensure_future(_watch(server, memory, began)),
        asyncio.ensure_future(_ask_health(server, health, counts)),
    ]
    work = (_client(server, n, until, alone, counts) for n in range(clients))
    await asyncio.gather(*work)
    for task in watching:
        task.cancel()
    return _judged(server, counts, memory, health, minutes)


async def _client(
    server: Server, number: int, until: float, alone: list[str], counts: Counter[str]
) -> None:
    pick = random.Random(number)
    while time.perf_counter() < until and server.alive:
        which, kind = pick.randrange(WISHES), pick.choice(KINDS)
        body: dict[str, Any] = {**wish(which), "stream": kind != "plain"}
        settings: dict[str, Any] = {}
        wanted = 200
        if kind == "gone":
            settings["stop_after"] = pick.randrange(1, 4)
        elif kind == "slow":
            settings |= {"read_size": 60, "pause": 0.02}
        elif kind == "wrong":
            wanted, more = pick.choice(WRONG)
            body |= more
        try:
            answer = await post(server.port, body, **settings)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            counts[f"broken: {type(error).__name__}"] += 1
            continue
        counts[str(answer.status)] += 1
        if answer.status == 503:
            counts["503 without Retry-After"] += not answer.retry_after
            await asyncio.sleep(1.0)
        elif answer.status != wanted:
            counts[f"{answer.status} where {wanted} was expected"] += 1
        elif kind in ("stream", "plain", "slow"):
            _compare(answer, alone[which], counts)


def _compare(answer: Answer, wanted: str, counts: Counter[str]) -> None:
    counts["texts"] += 1
    counts["wrong texts"] += answer.text != wanted
    counts["incomplete"] += not answer.complete


async def _watch(server: Server, memory: list[tuple[float, int, int]], began: float) -> None:
    while True:
        minute = (time.perf_counter() - began) / 60
        memory.append((minute, server.memory(), server.descriptors()))
        await asyncio.sleep(2)


async def _ask_health(server: Server, health: list[float], counts: Counter[str]) -> None:
    while True:
        status, seconds = await get(server.port, "/health/live")
        health.append(seconds)
        counts["health not 200"] += status != 200
        await asyncio.sleep(0.05)


def _judged(
    server: Server,
    counts: Counter[str],
    memory: list[tuple[float, int, int]],
    health: list[float],
    minutes: float,
) -> dict[str, Any]:
    settled = [size for minute, size, _ in memory if minute >= min(SETTLED, minutes / 2)]
    middle = len(settled) // 2
    growth = max(settled[middle:]) - max(settled[:middle]) if middle else 0
    p99 = statistics.quantiles(health, n=100)[98] if len(health) > 100 else max(health)
    bad = {
        name: count
        for name, count in counts.items()
        if count and not name.isdigit() and name != "texts"
    }
    failed = [f"{name}: {count}" for name, count in bad.items()]
    failed += [f"status {name}: {n}" for name, n in counts.items() if name in ("500", "502", "504")]
    if growth > MOST_GROWTH:
        failed.append(f"memory grew by {growth / 2**20:.1f} MiB")
    if p99 > MOST_HEALTH:
        failed.append(f"health p99 {1000 * p99:.0f} ms")
    if not server.alive:
        failed.append(server.last_words())
    print(dict(counts))
    sizes = f"{memory[0][1] / 2**20:.1f} -> {memory[-1][1] / 2**20:.1f} MiB"
    print(f"memory {sizes}, {growth / 2**20:+.1f} MiB since minute {min(SETTLED, minutes / 2):g}")
    print(f"open files {memory[0][2]} -> {memory[-1][2]}")
    print(f"/health/live p99 {1000 * p99:.1f} ms, worst {1000 * max(health):.1f} ms")
    print("failed: " + "; ".join(failed) if failed else "nothing is wrong")
    return {
        "counts": dict(counts),
        "growth": growth,
        "health_p99": p99,
        "health_worst": max(health),
        "failed": failed,
    }
