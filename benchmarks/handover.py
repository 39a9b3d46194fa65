"""One model in every form that it can be handed over in: are the tokens the engine's, how large is
it, and how fast does it write?

    python benchmarks/handover.py --model models/smollm2 [--peer-python PEERS/bin/python]

Every row is a process of its own, which gets the ids of five prompts and writes 32 greedy tokens to
each: the first 32 are compared with the engine's, and tokens/s are of writing alone, without the
prompt and without loading. A row that fails says why. --peer-python is an interpreter with torch,
transformers and llama-cpp-python; without it this one is tried.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from minigpt_tf.console import table_lines
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import ModelFolder, load_folder
from minigpt_tf.inference.prompt import encode_prompt
from minigpt_tf.interop.export import export_model
from minigpt_tf.machine import processor_name, usable_cores

COUNT = 32
PROMPTS = (
    "who is Srinivasa Ramanujan",
    "The capital of France is",
    "Once upon a time there was",
    "he was an indian mathematician who",
    "The opposite of hot is",
)


class Written(NamedTuple):
    """What a form has written."""

    ids: list[list[int]]
    """COUNT tokens after each prompt."""
    speeds: list[float]
    """Tokens a second, of each."""


class Task(NamedTuple):
    """What a row gets."""

    folder: ModelFolder
    prompts: list[str]
    ids: list[list[int]]
    scratch: Path
    peer: str


def engine_rows(task: Task, quantize: str) -> tuple[Written, int]:
    """The engine, and the bytes of the weights in memory."""
    engine, _ = Engine.load(task.folder, quantize=quantize)
    suppressed = task.folder.tokenizer.suppressed_ids(task.folder.model.vocab_size)
    found = Written([], [])
    for ids in task.ids:
        logits, new = engine.prefill(ids), list[int]()
        began = time.perf_counter()
        while True:
            logits[suppressed] = -float("inf")
            new.append(int(logits.argmax()))
            if len(new) == COUNT:
                break
            logits = engine.decode_step(new[-1])
        found.speeds.append((COUNT - 1) / (time.perf_counter() - began))
        found.ids.append(new)
    return found, 0


def keras_rows(task: Task) -> tuple[Written, int]:
    """The Keras model, one whole forward pass a token."""
    code = """
import json, sys, time, numpy as np
from minigpt_tf.startup import quiet_import
with quiet_import():
    import keras, minigpt_tf.model
path, prompts, suppressed, count, context = json.loads(sys.argv[1])
model = keras.models.load_model(path)
out = []
for ids in prompts:
    ids, new, began = list(ids), [], time.perf_counter()
    while len(new) < count:
        rows = np.zeros((1, context), dtype="int32")
        rows[0, :len(ids)] = ids
        logits = np.array(model(rows))[0, len(ids) - 1]
        logits[suppressed] = -np.inf
        new.append(int(logits.argmax()))
        ids.append(new[-1])
    out.append([new, count / (time.perf_counter() - began)])
print(json.dumps(out))
"""
    exported = export_model(task.folder.path, task.scratch / "model.h5", "h5")
    suppressed = task.folder.tokenizer.suppressed_ids(task.folder.model.vocab_size).tolist()
    length = max(map(len, task.ids)) + COUNT
    given = [str(exported.path), task.ids, suppressed, COUNT, length]
    return python_rows([sys.executable], code, given), sum(exported.files.values())


def transformers_rows(task: Task) -> tuple[Written, int]:
    """transformers, with its cache of keys and values."""
    code = """
import json, sys, time, torch
from transformers import AutoModelForCausalLM
path, prompts, count = json.loads(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
out = []
for ids in prompts:
    given, cache, new = torch.tensor([ids]), None, []
    began = None
    with torch.inference_mode():
        while len(new) < count:
            step = model(given, past_key_values=cache, use_cache=True)
            began = began or time.perf_counter()
            cache = step.past_key_values
            new.append(int(step.logits[0, -1].argmax()))
            given = torch.tensor([[new[-1]]])
    out.append([new, (count - 1) / (time.perf_counter() - began)])
print(json.dumps(out))
"""
    exported = export_model(task.folder.path, task.scratch / "hf", "hf")
    given = [str(exported.path), task.ids, COUNT]
    return python_rows([task.peer], code, given), sum(exported.files.values())


def llama_cpp_rows(task: Task, dtype: str) -> tuple[Written, int]:
    """llama.cpp, by llama-cpp-python."""
    code = """
import json, sys, time, numpy as np, llama_cpp
path, prompts, count = json.loads(sys.argv[1])
model = llama_cpp.Llama(path, n_ctx=512, verbose=False)
out = []
for ids in prompts:
    model.reset()
    model.eval(ids)
    new, began = [], time.perf_counter()
    while True:
        logits = np.ctypeslib.as_array(model._ctx.get_logits(), (model.n_vocab(),))
        new.append(int(logits.argmax()))
        if len(new) == count:
            break
        model.eval(new[-1:])
    out.append([new, (count - 1) / (time.perf_counter() - began)])
print(json.dumps(out))
"""
    exported = export_model(task.folder.path, task.scratch / f"{dtype}.gguf", "gguf", dtype)
    given = [str(exported.path), task.ids, COUNT]
    return python_rows([task.peer], code, given), sum(exported.files.values())


def c_rows(task: Task, dtype: str) -> tuple[Written, int]:
    """model.c, by gcc -O3, with one thread."""
    out = export_model(task.folder.path, task.scratch / f"c-{dtype}", "c", dtype)
    program = out.path / "model"
    flags = ["-O3", "-march=native"]
    subprocess.run(["gcc", *flags, out.path / "model.c", "-lm", "-o", program], check=True)
    found = Written([], [])
    for prompt in task.prompts:
        command = [program, out.path / "model.bin", prompt, "--ids", "-n", str(COUNT)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.ids.append([int(word) for word in done.stdout.split()])
        found.speeds.append(float(done.stderr.split(",")[1].split()[0]))
    return found, out.files["model.bin"]


def bundle_rows(task: Task) -> tuple[Written, int]:
    """model.pyz, by this Python; its speed is with the start and the prompt."""
    out = export_model(task.folder.path, task.scratch / "model.pyz", "bundle")
    found = Written([], [])
    for prompt in task.prompts:
        command = [sys.executable, str(out.path), prompt, "--ids", "-n", str(COUNT)]
        began = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.ids.append([int(word) for word in done.stdout.split()])
        found.speeds.append(COUNT / (time.perf_counter() - began))
    return found, sum(out.files.values())


def web_rows(task: Task, dtype: str) -> tuple[Written, int]:
    """model.js, by Node, which has Chromium's engine."""
    code = """
import { readFileSync } from "node:fs";
const { File, Tokens, generate } = await import(process.argv[2]);
const content = readFileSync(process.argv[3]), start = content.byteOffset;
const file = new File(content.buffer.slice(start, start + content.length));
const tokens = new Tokens(file), count = Number(process.argv[4]), out = [];
for (const prompt of JSON.parse(process.argv[5])) {
  const ids = [];
  let began = 0;
  for (const id of generate(file, tokens, prompt, { count })) {
    began ||= performance.now();
    ids.push(id);
  }
  out.push([ids, (count - 1) / (performance.now() - began) * 1000]);
}
console.log(JSON.stringify(out));
"""
    out = export_model(task.folder.path, task.scratch / f"web-{dtype}", "web", dtype)
    shutil.copyfile(out.path / "model.js", task.scratch / "model.mjs")
    (task.scratch / "run.mjs").write_text(code)
    command = ["node", task.scratch / "run.mjs", task.scratch / "model.mjs"]
    command += [out.path / "model.bin", str(COUNT), json.dumps(task.prompts)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return written(done.stdout), sum(out.files.values())


def litert_rows(task: Task, dtype: str) -> tuple[Written, int]:
    """LiteRT by ai-edge-litert, with its cache of keys and values."""
    code = """
import json, sys, time
from minigpt_tf.interop.litert.running import LiteRTRunner
path, prompts, suppressed, count, cores = json.loads(sys.argv[1])
runner = LiteRTRunner(path, cores)
out = []
for ids in prompts:
    given, began = list(ids), None
    for logits in runner.logits(given):
        began = began or time.perf_counter()
        logits[suppressed] = -float("inf")
        given.append(int(logits.argmax()))
        if len(given) == len(ids) + count:
            break
    out.append([given[len(ids):], (count - 1) / (time.perf_counter() - began)])
print(json.dumps(out))
"""
    out = export_model(task.folder.path, task.scratch / f"{dtype}.tflite", "tflite", dtype)
    suppressed = task.folder.tokenizer.suppressed_ids(task.folder.model.vocab_size).tolist()
    given = [str(out.path), task.ids, suppressed, COUNT, usable_cores()]
    return python_rows([sys.executable], code, given), sum(out.files.values())


def litert_lm_rows(task: Task, dtype: str) -> tuple[Written, int]:
    """LiteRT-LM, which gives text: its ids are those of the text. Its speed is its own figure."""
    code = """
import json, sys, litert_lm
path, scratch, prompts, count, cores = json.loads(sys.argv[1])
greedy = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
backend = litert_lm.Backend.CPU(thread_count=cores)
out = []
with litert_lm.Engine(path, backend=backend, cache_dir=scratch, enable_benchmark=True) as e:
    for prompt in prompts:
        with e.create_session(
            apply_prompt_template=False, sampler_config=greedy, max_output_tokens=count
        ) as session:
            session.run_prefill([prompt])
            text = session.run_decode().texts[0]
            speed = session.get_benchmark_info().last_decode_tokens_per_second
            out.append([text, speed])
print(json.dumps(out))
"""
    out = export_model(task.folder.path, task.scratch / f"{dtype}.litertlm", "litert", dtype)
    given = [str(out.path), str(task.scratch), task.prompts, COUNT, usable_cores()]
    found = python_rows([sys.executable], code, given)
    encode = task.folder.tokenizer.encode
    return found._replace(ids=[encode(text).tolist() for text in found.ids]), sum(
        out.files.values()
    )


def onnx_rows(task: Task) -> tuple[Written, int]:
    """onnxruntime."""
    code = """
import json, sys, time, numpy as np, onnxruntime
path, prompts, suppressed, count = json.loads(sys.argv[1])
session = onnxruntime.InferenceSession(path)
names = [value.name for value in session.get_outputs()]
given = session.get_inputs()[1:]
out = []
for ids in prompts:
    past = {v.name: np.zeros((1, v.shape[1], 0, v.shape[3]), "float32") for v in given}
    new, began = [], None
    while len(new) < count:
        found = dict(zip(names, session.run(None, {"input_ids": np.array([ids]), **past})))
        began = began or time.perf_counter()
        logits = found.pop("logits")[0, -1]
        logits[suppressed] = -np.inf
        new.append(int(logits.argmax()))
        ids = new[-1:]
        past = {name.replace("present", "past"): value for name, value in found.items()}
    out.append([new, (count - 1) / (time.perf_counter() - began)])
print(json.dumps(out))
"""
    exported = export_model(task.folder.path, task.scratch / "onnx", "onnx")
    suppressed = task.folder.tokenizer.suppressed_ids(task.folder.model.vocab_size).tolist()
    given = [str(exported.path / "model.onnx"), task.ids, suppressed, COUNT]
    return python_rows([sys.executable], code, given), sum(exported.files.values())


def python_rows(command: list[str], code: str, given: list) -> Written:
    """What a program in Python has written."""
    words = [*command, "-c", code, json.dumps(given)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return written(done.stdout)


def written(printed: str) -> Written:
    rows = json.loads(printed.splitlines()[-1])
    return Written([ids for ids, _ in rows], [speed for _, speed in rows])


Row = Callable[[Task], tuple[Written, int]]
ROWS: dict[str, Row] = {
    "engine, float32": lambda task: engine_rows(task, "none"),
    "engine, int8": lambda task: engine_rows(task, "int8"),
    "Keras (whole passes)": keras_rows,
    "transformers": transformers_rows,
    "GGUF f32, llama.cpp": lambda task: llama_cpp_rows(task, "f32"),
    "GGUF q8_0, llama.cpp": lambda task: llama_cpp_rows(task, "q8_0"),
    "LiteRT, f32": lambda task: litert_rows(task, "f32"),
    "LiteRT, int8": lambda task: litert_rows(task, "int8"),
    "LiteRT-LM, f32": lambda task: litert_lm_rows(task, "f32"),
    "LiteRT-LM, int8": lambda task: litert_lm_rows(task, "int8"),
    "ONNX, onnxruntime": onnx_rows,
    "C, f32, 1 thread": lambda task: c_rows(task, "f32"),
    "C, q8_0, 1 thread": lambda task: c_rows(task, "q8_0"),
    "web, f32": lambda task: web_rows(task, "f32"),
    "web, q8_0": lambda task: web_rows(task, "q8_0"),
    "Python alone (bundle)": bundle_rows,
}


def until(end_ids: frozenset[int], ids: list[int]) -> list[int]:
    """The tokens before one that ends the text."""
    return ids[: next((place for place, i in enumerate(ids) if i in end_ids), len(ids))]


def reason(error: Exception) -> str:
    """Why a row has nothing, in a line."""
    if isinstance(error, subprocess.CalledProcessError):
        last = (error.stderr or "").strip().splitlines()[-1:]
        return f"ended with {error.returncode}: {last[0] if last else ''}"
    return str(error).splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--only", nargs="+", default=[""], help="words in the names of the rows")
    arguments = parser.parse_args()
    folder = load_folder(arguments.model)
    context = folder.model.context_length
    ids = [encode_prompt(folder.tokenizer, context, text).ids for text in PROMPTS]
    print(f"{processor_name()}, {arguments.model}")
    lines: list[tuple[str, ...]] = []
    expected: list[list[int]] = []
    with tempfile.TemporaryDirectory() as scratch:
        task = Task(folder, list(PROMPTS), ids, Path(scratch), arguments.peer_python)
        for name, row in ROWS.items():
            if name != "engine, float32" and not any(word in name for word in arguments.only):
                continue
            try:
                found, size = row(task)
            except Exception as error:
                lines.append((name, "-", "-", "-"))
                print(f"{name}: {reason(error)}", flush=True)
                continue
            texts = [until(folder.tokenizer.end_ids, ids) for ids in found.ids]
            expected = expected or texts
            same = sum(one == other for one, other in zip(texts, expected, strict=True))
            megabytes = f"{size / 1e6:,.0f}" if size else "-"
            speed = f"{statistics.median(found.speeds):,.1f}"
            lines.append((name, f"{same} of {len(expected)}", megabytes, speed))
            print(f"{name}: {same} of {len(expected)}, {speed} tokens/s", file=sys.stderr)
    header = ("form", f"same {COUNT} tokens", "MB", "tokens/s")
    for line in table_lines(lines, width=120, header=header):
        print(line)


if __name__ == "__main__":
    main()
