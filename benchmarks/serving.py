"""Serving under load: minigpt serve beside llama.cpp's llama-server, on the same machine, in turns.

    python benchmarks/serving.py speed --model models/smollm2 --llama-server BIN --gguf F-q8_0.gguf
    python benchmarks/serving.py gap   --model models/smollm2 --llama-server BIN --gguf F-q8_0.gguf
    python benchmarks/serving.py turns --model models/smollm2
    python benchmarks/serving.py start --model models/smollm2
    python benchmarks/serving.py soak  --model models/smollm2 --minutes 10

- speed: tokens a second of 1 to 16 streams together, sampled at temperature 0.8 and top_p 0.95,
  over the whole HTTP path; and of the engine alone, without sampling, scheduler and HTTP.
- gap: the longest pause of a stream while another client's prompt of 1,800 words is read.
- turns: time to the first token in a chat of 20 turns, with prefix reuse and without.
- start: seconds from the command to /health/ready.
- soak: 200 clients that stream, wait, go, err and read slowly; each text is compared with the one
  that the request has alone (benchmarks/serving_soak.py).

Without --llama-server only minigpt is measured; a peer that dies is reported, with how to build it.
Prints medians of --rounds alternating runs.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import peers
import serving_soak
from results import middle, ratio, shown
from serving_client import Answer, post
from serving_servers import BUILD, Server, llama_server, ours, running

from minigpt_tf.inference.folder import load_folder
from minigpt_tf.machine import processor_name

STREAMS, TOKENS = (1, 2, 4, 8, 16), 64
CONTEXT = 2560
"""Of each stream: room for the long prompt."""
SAMPLING = {"temperature": 0.8, "top_p": 0.95}
WORDS = tuple(
    [
        "the",
        "river",
        "ran",
        "past",
        "old",
        "stone",
        "houses",
        "where",
        "people",
        "sold",
        "bread",
        "and",
        "paper",
        "lamps",
    ]
)
TURNS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("speed", "gap", "turns", "start", "soak"))
    parser.add_argument("--model", type=Path, required=True, help="a model folder")
    parser.add_argument("--quantize", default="int8", choices=("none", "int8", "int4"))
    parser.add_argument("--llama-server", type=Path, help="the peer's program")
    parser.add_argument("--gguf", type=Path, help="the same model for the peer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--clients", type=int, default=200, help="of the soak")
    arguments = parser.parse_args()
    if (arguments.llama_server is None) != (arguments.gguf is None):
        parser.error("--llama-server and --gguf belong together")
    print(processor_name())
    found = globals()[f"measure_{arguments.what}"](arguments)
    print(json.dumps({"what": arguments.what, "processor": processor_name(), **found}))
    sys.exit(1 if found.get("failed") else 0)


def servers_of(arguments: argparse.Namespace) -> list[Server]:
    """Ours, and the peer if it is there."""
    rows = max(16, *arguments.streams)
    found = [
        ours(
            arguments.model,
            arguments.quantize,
            *("--slots", str(rows), "--context-length", str(CONTEXT)),
        )
    ]
    if arguments.llama_server is not None:
        found.append(llama_server(arguments.llama_server, arguments.gguf, rows, CONTEXT))
    return found


def body_of(text: str, tokens: int, seed: int, ends: list[int], **more: Any) -> dict[str, Any]:
    """A chat request for exactly so many tokens: the ends of an answer are forbidden."""
    return {
        "model": "model",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logit_bias": {str(i): -100 for i in ends},
        **SAMPLING,
        **more,
    }


def prompt_of(words: int, seed: int) -> str:
    """A text that no other prompt begins like."""
    pick = random.Random(seed)
    return f"{seed}: " + " ".join(pick.choice(WORDS) for _ in range(words))


def ends_of(model: Path) -> list[int]:
    return sorted(load_folder(model).tokenizer.end_ids)


async def together(server: Server, bodies: list[dict[str, Any]]) -> tuple[float, list[Answer]]:
    """All requests at once; the seconds until the last has ended, and the answers."""
    began = time.perf_counter()
    answers = await asyncio.gather(*(post(server.port, body) for body in bodies))
    return time.perf_counter() - began, answers


def check(server: Server, answers: list[Answer]) -> bool:
    """Whether the answers can be counted; says why not."""
    if not server.alive:
        print(f"{server.name} {server.last_words()}; build it: {BUILD}")
        return False
    wrong = [answer.status for answer in answers if not answer.complete or not answer.tokens]
    if wrong:
        print(f"{server.name}: {len(wrong)} answers are not complete, of status {wrong[0]}")
    return not wrong


def measure_speed(arguments: argparse.Namespace) -> dict[str, Any]:
    ends = ends_of(arguments.model)
    rates: dict[str, dict[int, list[float | None]]] = {}
    firsts: dict[str, dict[int, list[float]]] = {}
    with running(servers_of(arguments)) as servers:
        for round_number in range(arguments.rounds + 1):  # the first one warms up
            for streams in arguments.streams:
                for server in servers:
                    bodies = [
                        body_of(prompt_of(12, 1000 * round_number + n), TOKENS, n, ends)
                        for n in range(streams)
                    ]
                    rate, decode = None, None
                    if server.alive:
                        seconds, answers = _safely(server, bodies)
                        if check(server, answers):
                            rate = sum(answer.tokens for answer in answers) / seconds
                            decode = sum(answer.rate for answer in answers)
                            first = firsts.setdefault(server.name, {}).setdefault(streams, [])
                            first.extend(answer.first for answer in answers)
                    if round_number:
                        for name, value in ((server.name, rate), (f"{server.name} decode", decode)):
                            rates.setdefault(name, {}).setdefault(streams, []).append(value)
                if round_number:
                    bare = peers.run(
                        {
                            "peer": "serving_bare",
                            "task": "speed",
                            "model": str(arguments.model),
                            "quantize": arguments.quantize,
                            "streams": streams,
                            "prompt": 45,
                            "tokens": TOKENS,
                        }
                    )
                    rates.setdefault("engine alone", {}).setdefault(streams, []).append(
                        bare.get("rate")
                    )
        names = [server.name for server in servers]
    return _print_speed(names, rates, firsts)


def _safely(server: Server, bodies: list[dict[str, Any]]) -> tuple[float, list[Answer]]:
    """The answers; none if the server has died meanwhile."""
    try:
        return asyncio.run(together(server, bodies))
    except (OSError, asyncio.IncompleteReadError):
        return 0.0, [Answer()]


def _print_speed(names: list[str], rates: Any, firsts: Any) -> dict[str, Any]:
    own = names[0]
    print("\ntokens/s of all streams together, first token (median, worst) in ms")
    print(f"{'streams':>8}" + "".join(f"{name:>22}{'first':>14}" for name in names), end="")
    print(f"{'ratio':>8}{'decode alone':>14}{'engine alone':>14}{'overhead':>10}")
    found: dict[str, Any] = {}
    for streams in rates[own]:
        line = f"{streams:>8}"
        for name in names:
            first = sorted(firsts.get(name, {}).get(streams, [])) or [float("nan")]
            line += shown(middle(rates[name][streams]), 22, 1)
            line += f"{1000 * statistics.median(first):>8.0f}{1000 * first[-1]:>6.0f}"
        versus = ratio(rates[own][streams], rates[names[-1]][streams]) if names[1:] else None
        decode, bare = rates[f"{own} decode"][streams], rates["engine alone"][streams]
        cost = ratio(bare, decode)
        overhead = None if cost is None else 1 - 1 / cost
        line += shown(versus, 8) + shown(middle(decode), 14, 1) + shown(middle(bare), 14, 1)
        print(line + ("         -" if overhead is None else f"{overhead:>10.1%}"))
        found[str(streams)] = {
            **{name: middle(rates[name][streams]) for name in names},
            "ratio": versus,
            "overhead": overhead,
        }
    return {"speed": found}


def measure_gap(arguments: argparse.Namespace) -> dict[str, Any]:
    ends = ends_of(arguments.model)
    found: dict[str, dict[str, list[float]]] = {}
    with running(servers_of(arguments)) as servers:
        for round_number in range(arguments.rounds + 1):
            for server in [server for server in servers if server.alive]:
                try:
                    run = asyncio.run(_interrupted(server, 100 + 10 * round_number, ends))
                except (OSError, asyncio.IncompleteReadError):
                    check(server, [Answer()])
                    continue
                if round_number:
                    for name, value in run.items():
                        found.setdefault(server.name, {}).setdefault(name, []).append(value)
    for name, figures in found.items():
        print(name, {what: round(statistics.median(values), 3) for what, values in figures.items()})
    return {
        "gap": {
            name: {what: statistics.median(values) for what, values in figures.items()}
            for name, figures in found.items()
        }
    }


async def _interrupted(server: Server, seed: int, ends: list[int]) -> dict[str, float]:
    """A stream, and while it runs a long prompt; then the prompt's time alone."""
    stream = asyncio.ensure_future(post(server.port, body_of("hi", 500, seed, ends)))
    await asyncio.sleep(1.0)
    sent = time.perf_counter()
    intruder = await post(server.port, body_of(prompt_of(1800, seed), 2, seed, ends))
    until = sent + intruder.first
    answer = await stream
    check(server, [answer, intruder])
    alone = await post(server.port, body_of(prompt_of(1800, seed + 1), 2, seed, ends))
    return {
        "longest gap": answer.longest_gap(sent, until),
        "gap before": answer.longest_gap(answer.began, sent - 0.05),
        "first token of the long prompt": intruder.first,
        "the same alone": alone.first,
    }


def measure_turns(arguments: argparse.Namespace) -> dict[str, Any]:
    ends = ends_of(arguments.model)
    said = [prompt_of(25, number) for number in range(TURNS)]
    answers = [prompt_of(30, 100 + number) for number in range(TURNS)]
    options = ("--slots", "4", "--context-length", str(2 * CONTEXT))
    totals: dict[str, list[list[float]]] = {"with": [], "without": []}
    with running(
        [
            ours(arguments.model, arguments.quantize, *options),
            ours(arguments.model, arguments.quantize, "--no-prefix-cache", *options),
        ]
    ) as servers:
        for round_number in range(arguments.rounds + 1):
            for kind, server in zip(totals, servers, strict=True):
                firsts = asyncio.run(_chat(server, round_number, said, answers, ends))
                if round_number:
                    totals[kind].append(firsts)
    ratios = [sum(a) / sum(b) for a, b in zip(*totals.values(), strict=True)]
    last = [a[-1] / b[-1] for a, b in zip(*totals.values(), strict=True)]
    for kind, rounds in totals.items():
        middles = [statistics.median(turn) for turn in zip(*rounds, strict=True)]
        print(f"{kind:>8}: " + " ".join(f"{1000 * value:.0f}" for value in middles), "ms")
    print(f"ratio of all turns {statistics.median(ratios):.3f}, of the last {last[0]:.3f}")
    return {"turns": {"ratio": statistics.median(ratios), "last": statistics.median(last)}}


async def _chat(
    server: Server, number: int, said: list[str], answers: list[str], ends: list[int]
) -> list[float]:
    messages: list[dict[str, str]] = []
    firsts = []
    for turn, (text, reply) in enumerate(zip(said, answers, strict=True)):
        messages.append({"role": "user", "content": f"{number} {text}"})
        answer = await post(server.port, body_of("", 2, 1, ends, messages=messages))
        check(server, [answer])
        if turn:  # the first one has nothing to reuse
            firsts.append(answer.first)
        messages.append({"role": "assistant", "content": reply})
    return firsts


def measure_start(arguments: argparse.Namespace) -> dict[str, Any]:
    seconds = []
    for round_number in range(arguments.rounds + 1):
        server = ours(arguments.model, arguments.quantize)
        server.stop()
        if round_number:
            seconds.append(server.seconds)
    print(f"ready after {statistics.median(seconds):.2f} s (of {len(seconds)} warm starts)")
    return {"start": statistics.median(seconds)}


def measure_soak(arguments: argparse.Namespace) -> dict[str, Any]:
    options = ("--slots", "16", "--context-length", "512", "--queue", "256", "--send-seconds", "60")
    with running([ours(arguments.model, arguments.quantize, *options)]) as (server,):
        return serving_soak.soak(server, arguments.clients, arguments.minutes)


if __name__ == "__main__":
    main()
