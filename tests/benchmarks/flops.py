"""Floating-point operations that an update's mathematics asks for, and what a device could do in a second.

Counted are matrix products, two operations a multiply-add, with causal attention counted as half a square; nothing is
counted twice because an implementation computes it twice. This is the model FLOP utilisation of PaLM
(arXiv 2204.02311, appendix B) with the knowledge computed once per file and update.
"""

from tests.benchmarks.workload import Workload

DENSE_BF16 = {
    "B200": 2_250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 5090": 209e12,
    "RTX 4090": 165e12,
}
"""Dense bfloat16 operations a second by device name, from NVIDIA's data sheets; the first name that fits counts."""


def peak_flops(device_name: str) -> float | None:
    """What the device could do, or None if it is not in the list."""
    return next((flops for name, flops in DENSE_BF16.items() if name in device_name), None)


def _forward(workload: Workload, tokens: float, attended: float) -> float:
    """Layers only: `tokens` through the matrices, `attended` pairs of a query and a key."""
    shape = workload.shape
    return 2 * shape.block_weights * tokens + 4 * shape.layers * shape.heads * shape.head_dim * attended


def update_flops(workload: Workload, *, knowledge_files: int) -> float:
    """Operations of one update.

    Args:
        workload: its lengths and sizes.
        knowledge_files: files computed in it: all of them, or 0 where they are cached.
    """
    own, known = workload.own_length, workload.knowledge
    head = 2 * workload.shape.head_weights * workload.response_tokens
    student = 3 * (workload.samples * _forward(workload, own, own**2 / 2) + head)
    teacher = workload.samples * _forward(workload, own, own * known + own**2 / 2) + head
    return student + teacher + knowledge_files * _forward(workload, known, known**2 / 2)
