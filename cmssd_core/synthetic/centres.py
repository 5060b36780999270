"""Hospitals of a synthetic cohort: scanner, protocol, coil and the laboratory that stains the slides.

What a centre is depends on (cohort seed, its number, shift) alone. A shifted centre lies outside the range of the
ordinary ones: other protocols, a surface coil, more noise; stain matrices that no ordinary laboratory has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHIFTS = ("none", "scanner", "stain", "both")
LABORATORIES = {  # haematoxylin and eosin as optical density in R, G, B; normalised on use
    "ruifrok": ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)),
    "imagej": ((0.644, 0.717, 0.267), (0.093, 0.954, 0.283)),
    "macenko": ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)),
    "e_heavy": ((0.60, 0.75, 0.28), (0.17, 0.95, 0.25)),
    "light": ((0.57, 0.71, 0.38), (0.15, 0.89, 0.42)),
    "h_heavy": ((0.75, 0.61, 0.32), (0.04, 0.93, 0.36)),
    "dark": ((0.78, 0.55, 0.28), (0.09, 0.97, 0.21)),
}
UNSEEN_LABORATORIES = ("h_heavy", "dark")  # only centres with a shifted stain


@dataclass(frozen=True)
class Centre:
    """One hospital. Factors multiply the protocol's nominal values.

    tr, te: by contrast; gamma: of the stored intensities; bias: spread of the polynomial coefficients of the bias
    field; snr: of muscle, lowest and highest; surface_mm: distance at which a surface coil's sensitivity has halved,
    None for a volume coil; stain: gain of haematoxylin and eosin; white: of the empty glass, in [0, 1].
    """

    name: str
    scanner: str
    field_t: float
    coil: str
    surface_mm: float | None
    tr: dict[str, float]
    te: dict[str, float]
    gamma: float
    bias: float
    snr: tuple[float, float]
    laboratory: str
    stain: tuple[float, float]
    white: float


def centre(number: int, *, seed: int, shift: str = "none") -> Centre:
    """Centre `number` of the cohort with this seed. shift: one of SHIFTS."""
    rng = np.random.default_rng([seed, number, 7])
    scanner, stain = shift in ("scanner", "both"), shift in ("stain", "both")
    spread = 0.30 if scanner else 0.15
    # From 15 to 30 percent off, either way, where the scanner is shifted; within 15 otherwise.
    offs = rng.uniform(0.15 if scanner else 0.0, spread, (2, 3)) * rng.choice([-1.0, 1.0], (2, 3))
    names = ("t1", "t2", "stir")
    field_t = float(rng.choice([1.5, 3.0]))
    surface = bool(rng.random() < (1.0 if scanner else 0.2))
    surface_mm = float(rng.uniform(70, 100) if scanner else rng.uniform(110, 160))
    gamma = float(rng.choice([rng.uniform(0.85, 0.92), rng.uniform(1.1, 1.2)]) if scanner else rng.uniform(0.95, 1.05))
    ordinary = [lab for lab in LABORATORIES if lab not in UNSEEN_LABORATORIES]
    laboratory = str(rng.choice(UNSEEN_LABORATORIES if stain else ordinary))
    return Centre(
        name=f"{'shifted' if shift != 'none' else 'centre'}-{number:02d}",
        scanner=f"synthetic {field_t:g} T {'ABCD'[int(rng.integers(4))]}",
        field_t=field_t,
        coil="surface" if surface else "volume",
        surface_mm=surface_mm if surface else None,
        tr={name: float(1 + off) for name, off in zip(names, offs[0], strict=True)},
        te={name: float(1 + off) for name, off in zip(names, offs[1], strict=True)},
        gamma=gamma,
        bias=float(rng.uniform(0.25, 0.35) if scanner else rng.uniform(0.1, 0.25)),
        snr=(10.0, 15.0) if scanner else (15.0, 40.0),
        laboratory=laboratory,
        stain=(float(rng.uniform(0.9, 1.1)), float(rng.uniform(0.9, 1.1))),
        white=float(rng.uniform(0.94, 0.99)),
    )
