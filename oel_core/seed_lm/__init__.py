"""The embedded model: a model organism for the learning loop, small enough to ship, to train and to watch.

It has the real Qwen3 architecture and three skills: act on knowledge in the prompt, act without knowledge (it has to
guess), and write an experience item from an episode. What symbols mean is drawn anew in every training episode, so
its weights cannot know what a deployment's symbols mean; it has to learn that from experience, as the loop teaches.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
