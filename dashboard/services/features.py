"""What the model saw in each case of a cohort: the features of its results, a plane they are drawn on, like cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from cmssd_core.cases.modalities import MODALITIES
from dashboard.services import cohort as cohorts
from dashboard.services.cohort import State

FloatArray = npt.NDArray[np.float64]
FEWEST = 3  # cases; two always lie on a line
MOST_TSNE = 2000  # cases; t-SNE's time grows fast
PCA, TSNE = "PCA", "t-SNE"
#: Column of features.parquet -> in words; the first that is there is drawn.
KINDS = {
    "fused": "fused features (what the model's malignancy head reads)",
    **{name: f"features of the {each.label} encoder" for name, each in MODALITIES.items()},
}


@dataclass(frozen=True, eq=False)
class Features:
    """rows: position in the cohort's table of each case that has features; values (case, feature), z-scored over them.

    kind: which features, in words.
    """

    rows: npt.NDArray[np.int64]
    values: FloatArray
    kind: str


@dataclass(frozen=True, eq=False)
class Plane:
    """Two coordinates for each case that has features. rows as in Features; axes: what the coordinates are."""

    rows: npt.NDArray[np.int64]
    xy: FloatArray  # (case, 2)
    axes: tuple[str, str]
    said: str


def features(cohort: Path, model: str | None) -> Features | None:
    """The features a model had of a cohort's cases; None where the results hold none of two cases or more."""
    folder, present = cohorts.results_folder(cohort), State.of(cohort)
    kept = None if folder is None else State.of(folder / "features.parquet")
    if kept is None or present is None:
        return None
    return _features(present, kept, model or next(iter(cohorts.models(cohort)), ""))


@st.cache_resource(max_entries=6, show_spinner="Reading the features")
def _features(present: State, kept: State, model: str) -> Features | None:
    import pyarrow.parquet as parquet
    from pyarrow import ArrowException
    from pyarrow import array as pa_array

    try:
        columns = set(parquet.read_schema(kept.path).names)
        kinds = [kind for kind in KINDS if kind in columns]
        if not {"case_id", "model"} <= columns:
            return None
        named = pd.read_parquet(kept.path, columns=["case_id", "model"])
        mine = ((named["model"] == model) & ~named.duplicated()).to_numpy()
        rows = pd.Index(cohorts.table(Path(present.path))["case_id"]).get_indexer(named["case_id"])
        for kind in kinds:
            # As one array: pandas would make a Python object of each of 100,000 lists.
            lists = parquet.read_table(kept.path, columns=[kind])[kind].combine_chunks()
            keep = mine & (rows >= 0) & lists.is_valid().to_numpy(zero_copy_only=False)
            if not keep.any():
                continue
            vectors = lists.filter(pa_array(keep))
            wide = len(vectors[0])
            flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
            if wide == 0 or flat.size != wide * len(vectors):
                continue
            values, at = flat.reshape(-1, wide), rows[keep]
            sound = np.isfinite(values).all(axis=1)
            values, at = values[sound], at[sound]
            spread = values.std(axis=0)
            values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
            return Features(at, values, KINDS[kind]) if len(at) >= 2 else None
    except (OSError, ValueError, ArrowException):
        return None
    return None


def plane(cohort: Path, model: str | None, method: str) -> Plane | None:
    """The features on a plane by PCA or t-SNE; None where fewer than FEWEST cases have features."""
    found = features(cohort, model)
    if found is None or len(found.rows) < FEWEST:
        return None
    folder, present = cohorts.results_folder(cohort), State.of(cohort)
    kept = None if folder is None else State.of(folder / "features.parquet")
    assert present is not None
    assert kept is not None
    name = model or next(iter(cohorts.models(cohort)), "")
    return _plane(present, kept, name, TSNE if method == TSNE and len(found.rows) <= MOST_TSNE else PCA)


@st.cache_resource(max_entries=12, show_spinner="Drawing the features on a plane")
def _plane(present: State, kept: State, model: str, method: str) -> Plane:
    found = _features(present, kept, model)
    assert found is not None
    values = found.values
    if method == TSNE:
        from sklearn import manifold

        near = max(2.0, min(30.0, (len(values) - 1) / 3))
        xy = manifold.TSNE(2, perplexity=near, init="pca", random_state=0).fit_transform(values)
        words = (
            f"t-SNE of {found.kind}, perplexity {near:.0f}: near points are alike; distances between groups, their "
            "sizes and the axes mean nothing."
        )
        return Plane(found.rows, np.asarray(xy, dtype=np.float64), ("t-SNE 1", "t-SNE 2"), words)
    # The eigenvectors of the covariance are as good as an SVD of 100,000 rows and ten times faster.
    spread, vectors = np.linalg.eigh(values.T @ values / len(values))
    top = vectors[:, [-1, -2]] if vectors.shape[1] > 1 else np.column_stack([vectors[:, -1], np.zeros(len(vectors))])
    top = top * np.where(top[np.abs(top).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)  # the sign is free: fixed here
    share = np.clip(np.append(spread[::-1], 0.0)[:2], 0, None) / max(spread.sum(), 1e-12)
    axes = (f"component 1 ({share[0]:.0%} of the variance)", f"component 2 ({share[1]:.0%})")
    words = f"PCA of {found.kind}, z-scored: the two directions of most variance, {share.sum():.0%} of it in all."
    return Plane(found.rows, values @ top, axes, words)


def alike(cohort: Path, model: str | None, row: int, count: int = 8) -> pd.DataFrame | None:
    """The cases nearest to a row's by z-scored features: `row` and `distance`, as a share of the median distance.

    None where the case has no features.
    """
    found = features(cohort, model)
    if found is None or row not in found.rows:
        return None
    place = int(np.flatnonzero(found.rows == row)[0])
    away = np.sqrt(((found.values - found.values[place]) ** 2).sum(axis=1))
    others = np.delete(np.arange(len(away)), place)
    usual = float(np.median(away[others])) or 1.0
    nearest = others[np.argsort(away[others], kind="stable")[:count]]
    return pd.DataFrame({"row": found.rows[nearest], "distance": away[nearest] / usual})
