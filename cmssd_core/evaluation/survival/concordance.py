"""Concordance: how often the patient with the higher risk has the event first."""

from __future__ import annotations

import numpy as np

from cmssd_core.evaluation.figure import FEWEST, Bools, Figure, Patients, Values, absent


def c_index(risk: Values, time_months: Values, event: Bools, patients: Patients) -> Figure:
    """Harrell's concordance (Stat Med 1996) with Noether's interval (JASA 1967), by torchsurv; one row a patient.

    Of pairs whose order is known, the share in which the higher risk comes first; 0.5 = chance. Rows of one patient are
    one: mean risk, the patient's own time.
    """
    import torch
    from torchsurv.metrics.cindex import ConcordanceIndex  # takes seconds to import

    names, first, inverse = np.unique(np.asarray(patients).astype(str), return_index=True, return_inverse=True)
    if not event.any():
        return absent("no patient has an event")
    mean_risk = np.bincount(inverse, weights=risk) / np.bincount(inverse)
    time, happened = time_months[first], event[first]
    if not np.any(time[happened][:, None] < time[None]):
        return absent("no pair of patients is known to be ordered")
    index = ConcordanceIndex()
    value = float(index(torch.tensor(mean_risk), torch.tensor(happened), torch.tensor(time)))
    if len(names) < FEWEST:
        return Figure(value, None, None, len(names))
    low, high = (float(bound) for bound in index.confidence_interval(method="noether"))
    if not (np.isfinite(low) and np.isfinite(high)):
        return Figure(value, None, None, len(names))
    return Figure(value, max(0.0, low), min(1.0, high), len(names))
