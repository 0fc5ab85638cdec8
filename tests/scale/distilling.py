"""`python -m tests.scale.distilling START WORKDIR STEPS NODES ADDRESS`: a distillation, for tests that choose its host.

Prints each step, and an error's message.
"""

import sys
from pathlib import Path

from oel_core.distillation.training.run import distill
from oel_core.errors import OelError
from tests.distillation.builders import arguments


def main() -> None:
    start, workdir, steps, nodes, address = sys.argv[1:]
    settings = {"samples": 7, "learning_rate": 1e-5, "checkpoint_every": 1, "nodes": int(nodes), "nodes_wait_s": 300.0}
    given = arguments(Path(start), Path(workdir), steps=int(steps), rendezvous=address, **settings)
    try:
        distill(**given, on_step=lambda record: print("step", record.step, flush=True))
    except OelError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
