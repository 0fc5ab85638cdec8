"""The embedded model: a model organism for the learning loop, small enough to ship, to train and to inspect.

It has the real Qwen3 architecture and three skills: act on knowledge in the prompt, act without knowledge (by
guessing), and write an experience item from an episode. The meaning of symbols is sampled anew in every training
episode, so its weights cannot contain a deployment's meanings; it has to learn them from experience.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
