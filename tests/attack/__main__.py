"""``python -m tests.attack``: attacks for as long as one likes; stops at the first that succeeds."""

from __future__ import annotations

import argparse
import secrets
import time
from itertools import cycle

from tests.attack.campaign import Field, campaign
from tests.attack.test_attack import ATTACKS
from wasi_http.engine import Engine, EngineConfig


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(ATTACKS)} [default: all]")
    parser.add_argument("--seconds", type=float, default=600.0, help="for how long [default: 600]")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="[default: a new one]")
    parser.add_argument("--round", type=int, help="only this round, of one attack")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in ATTACKS]:
        parser.error(f"no such attack: {', '.join(unknown)}; there are {', '.join(ATTACKS)}")
    names = options.names or list(ATTACKS)
    field = Field(Engine(EngineConfig(max_instances=100)))
    if options.round is not None:
        if len(names) != 1:
            parser.error("--round needs the NAME of one attack")
        list(campaign(ATTACKS[names[0]], field, options.seed, iter([options.round])))
        print("nothing happened")
        return
    print(f"seed {options.seed}", flush=True)
    campaigns = {name: campaign(ATTACKS[name], field, options.seed) for name in names}
    done = dict.fromkeys(names, 0)
    end, told = time.monotonic() + options.seconds, 0.0
    for name in cycle(names):
        # Turns of the same length, whatever a round takes.
        turn = time.monotonic() + 5
        while time.monotonic() < min(turn, end):
            next(campaigns[name])
            done[name] += 1
        if time.monotonic() - told > 15 or time.monotonic() >= end:
            told = time.monotonic()
            print(", ".join(f"{name} {rounds:,}" for name, rounds in done.items()), "rounds", flush=True)
        if time.monotonic() >= end:
            return


if __name__ == "__main__":
    main()
