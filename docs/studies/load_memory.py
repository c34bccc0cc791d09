"""How much host memory loading a base takes beyond what stays: one process each for bf16, int8 and nf4.

Writes a random checkpoint with the published key names and widths and fewer layers (streamed to disk, about 8 GB),
loads it in fresh processes and prints peak memory, size of the result, and the difference. Linux only (/proc).

    python docs/studies/load_memory.py --scratch /some/disk
    python docs/studies/load_memory.py --scratch /some/disk --layers 1 --narrow
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.checkpoint import load_official, model_shapes, official_files
from charforge.families.bagel.config import BAGEL_TOKENS, AutoencoderConfig, BagelConfig, ExpertConfig, VisionConfig
from charforge.quantization import quantised_linear

KINDS = ("bf16", "int8", "nf4")
MIB = 2**20


def config_of(layers: int, narrow: bool) -> BagelConfig:
    """BAGEL-7B-MoT with fewer layers; ``narrow`` for a quick look (about 250 MB)."""
    widths = (1024, 4096, 8, 16384) if narrow else (3584, 18944, 28, 152064)
    expert = ExpertConfig(hidden_size=widths[0], intermediate_size=widths[1])
    return BagelConfig(
        layers=layers,
        heads=widths[2],
        kv_heads=4,
        head_dim=128,
        vocab_size=widths[3],
        understanding=expert,
        generation=expert,
        vision=VisionConfig(hidden_size=1152, intermediate_size=4304, heads=16, layers=1),
        autoencoder=AutoencoderConfig(channels=(32, 32, 32, 32)) if narrow else AutoencoderConfig(),
        special_tokens=BAGEL_TOKENS,
    )


def write_checkpoint(folder: Path, config: BagelConfig) -> int:
    """Random BF16 weights, written block by block. Returns the size of ``ema.safetensors`` in bytes."""
    shapes = model_shapes(config)
    header, end = {}, 0
    for name in sorted(shapes):
        length = 2 * torch.Size(shapes[name]).numel()
        header[name] = {"dtype": "BF16", "shape": list(shapes[name]), "data_offsets": [end, end + length]}
        end += length
    raw = json.dumps(header).encode()
    block = (torch.randn(8 * MIB) * 0.02).bfloat16().view(torch.uint8).numpy()
    with (folder / "ema.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for begin in range(0, end, len(block)):
            file.write(block[: end - begin])
    save_file(Autoencoder(config.autoencoder).official_state(), folder / "ae.safetensors")
    for name, content in official_files(config).items():
        (folder / name).write_text(json.dumps(content))
    return (folder / "ema.safetensors").stat().st_size


def status_bytes(key: str) -> int:
    """``VmRSS`` or ``VmHWM`` (its highest value) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {key}: this study needs Linux")


def held(*modules: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Every tensor that stays: parameters, buffers, and the statistics that bitsandbytes keeps beside its weights."""
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()
        for parameter in module.parameters():
            if getattr(parameter, "SCB", None) is not None:
                yield parameter.SCB
            state = getattr(parameter, "quant_state", None)
            while state is not None:
                yield state.absmax
                state = state.state2


def measure(folder: Path, kind: str) -> dict[str, float]:
    """Load in this process. The imports, and one layer quantised before, are not counted."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for warm in KINDS[1:]:
        quantised_linear(torch.nn.Linear(64, 64), torch.randn(64, 64).bfloat16(), warm, "cpu")
    before, begun = status_bytes("VmRSS"), time.monotonic()
    quantize = None if kind == "bf16" else kind
    model, autoencoder = load_official(folder, torch.bfloat16, "cpu", quantize)
    seconds, peak = time.monotonic() - begun, status_bytes("VmHWM") - before
    result = sum(tensor.numel() * tensor.element_size() for tensor in held(model, autoencoder))
    return {"seconds": seconds, "peak": peak / MIB, "result": result / MIB, "over": (peak - result) / MIB}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="a folder with 10 GB free")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--narrow", action="store_true", help="a quarter of the width: seconds instead of minutes")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    parser.add_argument("--load", nargs=2, metavar=("FOLDER", "KIND"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        folder, kind = arguments.load
        sys.stdout.write(json.dumps(measure(Path(folder), kind)))
        return
    folder = Path(tempfile.mkdtemp(prefix="load-memory-", dir=arguments.scratch))
    try:
        size = write_checkpoint(folder, config_of(arguments.layers, arguments.narrow))
        if not arguments.json:
            print(f"checkpoint {size / MIB:.0f} MiB\nkind   seconds   peak MiB   result MiB   peak over result MiB")
        for kind in arguments.kinds:
            command = [sys.executable, __file__, "--load", str(folder), kind]
            raw = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            if arguments.json:
                print(raw)
                continue
            told = json.loads(raw)
            print(f"{kind:5} {told['seconds']:8.1f} {told['peak']:10.0f} {told['result']:12.0f} {told['over']:15.0f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
