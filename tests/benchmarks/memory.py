"""Peak memory of prepare and apply for two lengths of the same experiment: it must not grow with the number of years.

python tests/benchmarks/memory.py [YEARS_SHORT YEARS_LONG]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

CHANNELS = ("zg500", "ta850", "hus850", "ua850", "tasmax", "pr")
CONFIG = """\
workspace: results
sources:
  RCM_A: {{role: rcm, files: [data/rcm/VGCM-A/*.nc]}}
  GCM_A: {{role: gcm, files: [data/gcm/VGCM-A/*.nc], drives: RCM_A}}
predictors: [{{name: zg, levels: [500]}}, {{name: ta, levels: [850]}}, {{name: hus, levels: [850]}}, {{name: ua, levels: [850]}}]
targets: [{{name: tasmax}}, {{name: pr}}]
domain: {{relaxation_cells: {relaxation_cells}, coarse_box: {coarse_box_edges}, fine_box: {fine_box}}}
upscale: {{to: GCM_A}}
split: {{train: [1990], validation: ["1991-01-01/1991-06-30"], test: ["1991-07-01/1991-12-31"]}}
model: {{name: resunet, width: 8}}
train: {{on: [RCM_A/perfect], epochs: 1, baselines: []}}
"""


def run(*arguments: str) -> float:
    """Run the command line in a process of its own and return its peak resident memory in MiB."""
    code = (
        "import resource, sys; from downscale.cli.app import app\n"
        "try:\n    app()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return int(result.stdout.rsplit("PEAK", 1)[1]) / 1024


def measure(years: int) -> dict[str, float]:
    """Peaks of prepare and apply, and MB read and written, for an experiment of some years."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        channels = [word for name in CHANNELS for word in ("--channel", name)]
        run("sample-data", str(base / "data"), "--gcms", "1", "--years", f"1990-{1989 + years}", *channels, "-q")
        geometry = json.loads((base / "data" / "truth.json").read_text())["geometry"]
        (base / "config.yaml").write_text(CONFIG.format(**geometry, fine_box=2 * geometry["target_cells"]))
        config = str(base / "config.yaml")
        prepare = run("prepare", config, "-q")
        run("train", config, "--name", "net", "-q")
        apply = run("apply", config, "--run", "net", "-q")
        size = sum(path.stat().st_size for path in (base / "data").rglob("*.nc")) / 1e6
        return {"years": years, "input_MB": round(size, 1), "prepare_MiB": round(prepare), "apply_MiB": round(apply)}


if __name__ == "__main__":
    for number in [int(word) for word in sys.argv[1:]] or [4, 16]:
        print(measure(number))
    print("peak of this process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MiB")
