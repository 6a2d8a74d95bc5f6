"""The 2-D target end to end: torchtitan 0.2.0 under torch 2.9.1, which CI has no room for.

    python tests/verify/target_2d.py [--python PYTHON]

Needs a download of torch 2.9.1 with its CUDA libraries (7 GB on disk, runs on CPU), or
the Python of an environment that has it together with `titan-migrate[verify]`. Migrates
with `--target auto`, which has to take 2d there, trains both trees on 2 ranks, and checks
the two log lines that PR 1714 expects and that the losses are DDP's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from releases import as_checkout, release

TOP = Path(__file__).resolve().parents[2]
EXPECTED = (
    "Building 2-D device mesh with ['dp_replicate', 'dp_shard'], [2, 1]",
    "Applied DDP to the model",
)


def environment(folder: Path) -> Path:
    """The Python of a fresh environment with torch 2.9.1 and what a CPU run needs."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "torch==2.9.1"], check=True
    )
    wanted = f"{TOP}[verify]"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wanted], check=True)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--python", type=Path, help="of an environment with torch 2.9.1"
    )
    given = parser.parse_args().python
    with tempfile.TemporaryDirectory() as scratch:
        python = given or environment(Path(scratch) / "environment")
        tree = as_checkout(release("0.2.0"), Path(scratch) / "torchtitan")
        command = [str(python), "-m", "migrator"]
        subprocess.run([*command, "apply", str(tree)], cwd=TOP, check=True)
        report = Path(scratch) / "report"
        command += ["verify", str(tree), "--report", str(report)]
        done = subprocess.run(command, cwd=TOP)
        if done.returncode:
            return done.returncode
        data = json.loads((report / "report.json").read_text())
        problems = []
        if not data["environment"]["torch"].startswith("2.9."):
            problems.append(f"this was torch {data['environment']['torch']}, not 2.9")
        losses = {
            party: [step["loss"] for step in trace["ranks"][0]["steps"]]
            for party, trace in data["models"]["llama3"]["dp"]["traces"].items()
        }
        refused = data["models"]["llama3"]["dp+pp"]["not_run"]
        if "pipeline" not in refused:
            problems.append("dp+pp is not listed as not supported")
        if losses["migrated"] != losses["baseline"]:
            problems.append(f"the losses differ: {losses}")
        log = (report / "llama3" / "dp" / "migrated" / "rank0.log").read_text()
        problems += [
            f"the log does not say: {line}" for line in EXPECTED if line not in log
        ]
        for line in EXPECTED:
            print(f"log: {line}" if line in log else f"missing: {line}")
        print(f"losses: {losses['migrated']}")
        for problem in problems:
            print(f"FAILED: {problem}")
        return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
