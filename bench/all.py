"""Runs all benchmark programs, one after another, and ends with what each says about its targets.

python bench/all.py              # all of them
python bench/all.py hello echo   # those named
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAMS = ("hello", "instance", "lists", "echo", "python", "startup", "sleep", "forward", "reuse", "compute")

_RESULTS = {0: "reached", 1: "missed"}


def main(names: list[str]) -> int:
    """The exit code is 0 when every target is reached, 1 when one is missed, 2 when something could not be measured."""
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        print(f"no such program: {', '.join(unknown)}; there are: {', '.join(PROGRAMS)}", file=sys.stderr)
        return 2
    table = []
    worst = 0
    for name in names or PROGRAMS:
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py"))]
        targets = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            for line in program.stdout:
                print(line, end="", flush=True)
                if "(target " in line:
                    targets.append(line.strip().partition("; as a")[0])
        code = program.returncode if program.returncode in _RESULTS else 2
        worst = max(worst, code)
        table.append(f"{name:<9} {_RESULTS.get(code, 'not measured'):<12}  {', '.join(targets)}")
    print()
    print("\n".join(table))
    return worst


if __name__ == "__main__":
    if any(argument in ("-h", "--help") for argument in sys.argv[1:]):
        print(__doc__)
        sys.exit(0)
    sys.exit(main(sys.argv[1:]))
