"""Trains the shop's seed model from the lake's: `python examples/deployment/train_model.py --out FOLDER`.

That one finds letters in items of knowledge already, so that a few minutes suffice.
"""

import argparse
from pathlib import Path

from corpus import COURSE

from oel_core.seed_lm import WEIGHTS
from oel_core.seed_lm.train import train

STEPS = 1500
TOKENS = 2048
RATE = 2e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"batches of {TOKENS:,} tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, default=WEIGHTS, help="folder of an earlier model, if not the lake's")
    options = parser.parse_args()
    train(options.out, options.steps, options.seed, options.start, course=COURSE, peak_rate=RATE, batch_tokens=TOKENS)


if __name__ == "__main__":
    main()
