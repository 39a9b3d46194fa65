"""The row of whole answers to natural prompts, with speculation and without."""

from peers import ENGINE, LLAMA_CPP
from results import Results, each, middle, ratio, shown
from rows import Figure, Files, Row
from shapes import SMOLLM2
from tasks import ANSWER_PROMPTS, ANSWER_TOKENS

from minigpt_tf.inference.folder import ModelFolder, load_folder
from minigpt_tf.inference.prompt import encode_chat, encode_prompt
from minigpt_tf.interop.gguf.write_gguf import export_gguf

PLAIN, GUESSING = "engine, speculate off", "engine, speculate auto"
THEIRS, LOOKUP = "llama.cpp f32", "llama.cpp f32, text lookup"


def speculation_row(files: Files, shape: str) -> Row | None:
    """Answers of a real model; only with --model."""
    if files.model is None or shape != SMOLLM2:
        return None
    folder = load_folder(files.model)
    file = files.scratch / "model-F32.gguf"
    export_gguf(folder, file, "f32")
    ours = {"peer": ENGINE, "task": "answers", "model": str(files.model.resolve())}
    theirs = {"peer": LLAMA_CPP, "file": str(file), "prompts": _ids(folder)}
    jobs = {
        PLAIN: ours | {"speculate": "off", "prompts": ANSWER_PROMPTS},
        GUESSING: ours | {"speculate": "auto", "prompts": ANSWER_PROMPTS},
        THEIRS: theirs | {"task": "answers"},
        LOOKUP: theirs | {"task": "answers_with_lookup"},
    }

    def report(results: Results) -> list[str]:
        lines = [f"{'':<28}{'tokens/s':>9}{'ratio':>7}  to {THEIRS}"]
        for label in jobs:
            speeds = each(results, label, "speed")
            of_theirs = ratio(speeds, each(results, THEIRS, "speed"))
            line = f"{label:<28}{shown(middle(speeds), 9, 1)}{shown(of_theirs, 7)}"
            same = same_answers(results, label)
            lines.append(line + ("" if same is None else f"  first tokens as {PLAIN}: {same}"))
        return lines

    def figures(results: Results) -> list[Figure]:
        plain, guessing, theirs = (each(results, n, "speed") for n in (PLAIN, GUESSING, THEIRS))
        return [
            ("speculate auto to llama.cpp f32", ratio(guessing, theirs), ">= 2.0"),
            ("speculate auto to off", ratio(guessing, plain), ">= 0.97"),
        ]

    prompts = f"{len(ANSWER_PROMPTS)} natural prompts, {ANSWER_TOKENS} tokens"
    return Row(f"{files.model.name} speculation, {prompts}", jobs, report, figures)


def _ids(folder: ModelFolder) -> list[list[int]]:
    """The prompts as the model gets them."""
    length, template = folder.model.context_length, folder.chat_template
    if template is None:
        return [encode_prompt(folder.tokenizer, length, text).ids for text in ANSWER_PROMPTS]
    questions = [[{"role": "user", "content": text}] for text in ANSWER_PROMPTS]
    return [encode_chat(folder.tokenizer, length, template, asked).ids for asked in questions]


def same_answers(results: Results, label: str) -> str | None:
    """For each prompt how many of the first tokens are those without speculation."""
    found, wanted = (next(iter(results.get(n, [])), {}).get("ids") for n in (label, PLAIN))
    if label == PLAIN or found is None or wanted is None:
        return None
    counts = []
    for ours, plain in zip(found, wanted, strict=True):
        differ = (i for i, (a, b) in enumerate(zip(ours, plain, strict=False)) if a != b)
        counts.append(f"{next(differ, len(plain))}/{len(plain)}")
    return " ".join(counts)
