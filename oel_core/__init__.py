"""Online Experiential Learning as a library: rollouts, knowledge, context distillation, evaluation.

Paper: Ye et al., "Online Experiential Learning for Language Models", arXiv 2603.16856. Nothing in here knows of
Prefect or MLflow; `tasks` and `flows` build on it, never the other way round.

Importing this package makes the threads of OpenMP sleep while they wait, before torch loads it: beside other work,
threads that spin keep the cores from those they wait for.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
