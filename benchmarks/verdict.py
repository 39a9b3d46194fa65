"""The course's training run: GPT-2's 124M configuration on The Verdict, with its settings.

    MINIGPT_ASSETS=assets python benchmarks/verdict.py --data assets/the-verdict.txt [--seed 123]

AdamW with a learning rate of 4e-4 and weight decay 0.1, batches of 2 windows of 256 tokens, stride
256, 10 epochs, dropout 0.1, untied head, no query, key and value biases. The last 10 % of the text
validates. At each evaluation it prints the mean loss over the course's 9 batches of the training
part and its one batch of the validation part, and a sample of text; at the end, both losses beside
the goals and the seconds of the whole run.

The learning rate rises over most of the run (--warmup-steps). With a constant one the text is known
by heart earlier and the validation loss has risen again by the end: what the training loss gains
there, the validation loss loses.
"""

import argparse
import tempfile
import time
from pathlib import Path

from minigpt_tf.config import DataConfig, TrainingConfig
from minigpt_tf.config.presets import model_preset
from minigpt_tf.evaluation.scoring import loss_over
from minigpt_tf.events import Evaluation, Listener
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.weights import Weights
from minigpt_tf.text.windows import window_batches
from minigpt_tf.training.plan import Plan, make_plan

TRAINING_GOAL, VALIDATION_GOAL = 0.57, 6.4
PROMPT = "Every effort moves you"


class Reporter(Listener):
    """Scores the weights of each evaluation, and prints what it finds."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.losses: tuple[float, float] = (float("nan"), float("nan"))

    def weights(self, step: int, weights: Weights) -> None:
        """Both losses, by the engine."""
        engine = Engine(self.plan.model, weights)
        corpus, context = self.plan.corpus, self.plan.model.context_length
        self.losses = tuple(
            loss_over(engine, window_batches(ids, context, batch_size=2, stride=context))
            for ids in (corpus.train_ids, corpus.val_ids)
        )

    def evaluation(self, evaluation: Evaluation) -> None:
        training, validation = self.losses
        print(
            f"epoch {evaluation.epoch:4.1f}  step {evaluation.step:3}  training loss "
            f"{training:.3f}  validation loss {validation:.3f}  "
            f"{evaluation.tokens_per_second:,.0f} tokens/s\n    {evaluation.sample!r}",
            flush=True,
        )


def plan_of(data: Path, training: TrainingConfig) -> Plan:
    """The course's model and data."""
    model = model_preset(
        "gpt2", context_length=256, tie_embeddings=False, qkv_bias=False, dropout=0.1
    )
    split = DataConfig(tokenizer="gpt2", stride=256, val_split=0.1)
    return make_plan([data], model, split, training, preset="gpt2", may_shrink_context=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--warmup-steps", type=int, default=72)
    parser.add_argument("--every", type=int, default=2, help="epochs between evaluations")
    arguments = parser.parse_args()
    training = TrainingConfig(
        epochs=10,
        batch_size=2,
        learning_rate=4e-4,
        optimizer="adamw",
        weight_decay=0.1,
        schedule="constant",
        warmup_steps=arguments.warmup_steps,
        epsilon=1e-8,
        seed=arguments.seed,
        eval_every=9 * arguments.every,
        sample_prompt=PROMPT,
        checkpoint_minutes=60,
    )
    plan = plan_of(arguments.data, training)
    print(f"{plan.model.parameter_count:,} parameters, {plan.total_steps} steps", flush=True)
    from minigpt_tf.training.trainer import train

    reporter = Reporter(plan)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        train(plan, Path(scratch) / "verdict", listener=reporter)
    seconds = time.perf_counter() - began
    for name, loss, goal in zip(
        ("training", "validation"), reporter.losses, (TRAINING_GOAL, VALIDATION_GOAL), strict=True
    ):
        print(f"{name:>10} loss  {loss:.4f}  goal at most {goal}")
    print(f"{seconds:.0f} s, saving and evaluations included")


if __name__ == "__main__":
    main()
