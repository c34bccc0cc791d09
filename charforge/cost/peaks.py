"""What a machine could compute, and what a step of training takes: together the MFU (model FLOPs utilisation).

A LoRA step on a frozen base costs, in units of the forward pass:

- frozen linears 2: forward, and backward to their inputs; their weights get no gradient (full training would be 3);
- attention and the adapter 3: forward, and backward to both factors.
"""

from __future__ import annotations

import re
import time

import torch

from charforge.families.protocol import Shapes
from charforge.families.work import Tokens

# Dense bf16 tensor-core FLOP/s with fp32 sums, from the makers' data sheets; the first pattern found in the name counts
_PEAKS = (
    (r"B200", 2250e12), (r"H200", 989e12), (r"H100 PCIe", 756e12), (r"H100 NVL", 835e12), (r"H100", 989e12),
    (r"A100", 312e12), (r"L40S", 362e12), (r"L40\b", 181e12), (r"L4\b", 121e12), (r"A40\b", 150e12),
    (r"A10G?\b", 125e12), (r"RTX 6000 Ada", 364e12), (r"RTX A6000", 155e12), (r"RTX A5000", 111e12),
    (r"RTX 5090\b", 209e12), (r"RTX 4090\b", 165e12), (r"RTX 4080\b", 97e12), (r"RTX 3090 Ti", 80e12),
    (r"RTX 3090\b", 71e12), (r"RTX 3080\b", 60e12),
)  # fmt: skip
# sold under the same name with other chips or power limits
_OTHER_CHIPS = r"Laptop|Max-Q| D\b|SUPER|MIG"


def forward_flops(shapes: Shapes, tokens: Tokens, rank: int) -> float:
    """One pass without gradients."""
    flops = shapes.pass_flops(tokens, rank)
    return flops.linears + flops.attention + flops.adapter


def step_flops(shapes: Shapes, tokens: Tokens, rank: int) -> float:
    """One forward and backward pass of a LoRA step: 2 x linears + 3 x (attention + adapter)."""
    flops = shapes.pass_flops(tokens, rank)
    return 2 * flops.linears + 3 * (flops.attention + flops.adapter)


def listed_peak(device_name: str) -> float | None:
    """Dense bf16 FLOP/s of a known card, None for others."""
    if re.search(_OTHER_CHIPS, device_name):
        return None
    return next((peak for pattern, peak in _PEAKS if re.search(pattern, device_name)), None)


def measured_peak(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of many short square matrix products on ``device``: one is likely to go undisturbed."""
    size = 8192 if device != "cpu" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(30):
        began = time.perf_counter()
        (a @ b).flatten()[0].item()
        times.append(time.perf_counter() - began)
    return 2.0 * size**3 / min(times[1:])
