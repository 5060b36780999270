"""How often chance passes the audit's p-values: simulated patients of whom nothing is true.

    python -m experiments.audit_chance [--trials 1000]

Prints, for values of several shapes and few to many patients, the share of trials with p at most 0.05 and at most
0.0125, which is what Holm asks of the first of four tests. A fair p gives these very shares.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from cmssd_core.audit.gates import resamples

PATIENTS = (6, 7, 10, 20, 40)
LEVELS = (0.05, 0.0125)
SCANS = 5  # of a patient at most, where some have several


def shapes(rng: np.random.Generator) -> dict[str, Callable[[int], np.ndarray]]:
    """Values of n patients, with mean 0."""
    return {
        "normal": lambda n: rng.normal(size=n),
        "heavy tails (t, 3)": lambda n: rng.standard_t(3, n),
        "skewed right (lognormal)": lambda n: rng.lognormal(size=n) - np.exp(0.5),
        "skewed left": lambda n: np.exp(0.5) - rng.lognormal(size=n),
    }


def p_of(values: np.ndarray, patients: list[str] | None, n: int) -> float:
    """As the gates G2 and G5 compute it."""
    drawn = resamples.weights(len(values), patients, 0)
    return resamples.chance(float(values.mean()), resamples.means(drawn, values), n)


def clustered(rng: np.random.Generator, n: int) -> float:
    """p of n patients with one to SCANS scans each, as unlike one another as patients are."""
    who = np.repeat(np.arange(n), rng.integers(1, SCANS + 1, n))
    values = rng.normal(size=n)[who] + rng.normal(size=len(who))
    return p_of(values, [str(i) for i in who], n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    trials, rng = parser.parse_args().trials, np.random.default_rng(0)
    ways: dict[str, Callable[[int], float]] = {
        name: lambda n, make=make: p_of(make(n), None, n) for name, make in shapes(rng).items()
    }
    ways["one to five scans each"] = lambda n: clustered(rng, n)
    print(f"{trials} trials; share with p at most {' / '.join(map(str, LEVELS))}")
    for name, way in ways.items():
        for n in PATIENTS:
            p = np.array([way(n) for _ in range(trials)])
            print(f"{name:<26}{n:>3} patients  " + " / ".join(f"{(p <= level).mean():.4f}" for level in LEVELS))


if __name__ == "__main__":
    main()
