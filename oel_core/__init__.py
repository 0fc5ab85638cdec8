"""Online Experiential Learning as a library: rollouts, knowledge, context distillation, evaluation.

Paper: Ye et al., "Online Experiential Learning for Language Models", arXiv 2603.16856. Nothing in here knows of
Prefect or MLflow; `tasks` and `flows` build on it, never the other way round.
"""

__version__ = "0.1.0"
