"""`cmssd audit` from files to audit.json and audit.html: verdicts, going on where it was killed, words for mistakes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from places import CHEAT
from tiny import TINY

from cmssd_core import config
from cmssd_core.audit import measure, run, traps
from cmssd_core.audit.examine import AuditSettings, Examiner
from cmssd_core.audit.probes import PROBES
from cmssd_core.cases.prepare import prepare
from cmssd_core.cases.tensors import channels
from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.explain.methods import METHODS
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.models import MODELS
from cmssd_core.models.spec import contrasts_of
from cmssd_core.models.weights import WeightsInfo, load, save
from cmssd_core.report import audit as page
from cmssd_core.synthetic.cohort import write
from cmssd_core.types import InputError

MARKED = replace(TINY, cases=12, seed=11, shortcut="marker", shortcut_correlation=0.5, split="test")
CHOSEN = AuditSettings(methods=("gradcam",), cases=12, mapped=8, deep=0, patches=4, workers=1)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marked")
    write(folder, settings=MARKED)
    return folder


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return config.settings().model_copy(update={"n4": False, "cache_dir": tmp_path_factory.mktemp("cache")})


@pytest.fixture(scope="module")
def told(marked: Path, program: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp("out")
    told = run.audit(marked, out, weights=(CHEAT,), chosen=CHOSEN, settings=program)
    assert json.loads((out / "audit.json").read_text(encoding="utf-8")) == told
    return told | {"out": out}


def test_the_demos_cheat_fails_naming_the_trap_and_its_region(told: dict) -> None:
    assert told["overall"] == "FAIL"
    assert {each["verdict"] for each in told["verdicts"]} == {"FAIL"}
    assert "block" in told["reason"]
    failed = {g["name"]: g for g in told["verdicts"][0]["gates"] if g["level"] == "fail"}
    assert {"G1 marker", "G1 marker twin"} & set(failed)
    assert all("corner" in g["details"]["region"] for name, g in failed.items() if name.startswith("G1 marker"))


def test_audit_json_keeps_its_promise(told: dict) -> None:
    assert {"verdicts", "overall", "reason", "model_id", "trained", "cases", "limits"} <= set(told)
    for each in told["verdicts"]:
        assert set(each) >= {"criterion", "modality", "method", "verdict", "gates"}
        for gate in each["gates"]:
            assert set(gate) >= {"name", "value", "low", "high", "threshold", "passed", "meaning"}
            assert gate["passed"] in (True, False, None)
    assert {each["criterion"] for each in told["verdicts"]} == {"osteoid", "cortical_destruction"}


def test_the_page_says_every_verdict_its_limits_and_for_whom_it_is(told: dict) -> None:
    html = (told["out"] / "audit.html").read_text(encoding="utf-8")
    assert "Research use only" in html
    assert html.count("badge v-FAIL") > len(told["verdicts"])
    for limit in told["limits"]:
        assert limit.split(",")[0].replace("'", "&#39;") in html
    assert "<script" not in html
    assert page.render(told | {"verdicts": [], "cases": [], "overall": "NOT ASSESSABLE"})


def test_an_audit_goes_on_where_it_was_stopped(
    marked: Path, program: Settings, told: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a kept case was measured again")

    monkeypatch.setattr(Examiner, "examine", never)
    again = run.audit(marked, tmp_path, weights=(CHEAT,), chosen=CHOSEN, settings=program)
    assert again["verdicts"] == told["verdicts"]


@pytest.fixture(scope="module")
def unnamed(marked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The marked cohort as a hospital would have it: no generator renders twins."""
    folder = tmp_path_factory.mktemp("unnamed") / "cohort"
    shutil.copytree(marked, folder, ignore=shutil.ignore_patterns("settings.json"))
    return folder


def test_a_case_that_came_with_the_trap_is_not_given_it_again_but_freed_of_it(
    unnamed: Path, marked: Path, program: Settings
) -> None:
    table = pd.read_csv(unnamed / "cohort.csv")
    examiner = Examiner.of(CHEAT, unnamed, table, program, CHOSEN)
    assert examiner.asked["marker removed"].of == "marker"
    trapped = table[table["trap_mask"].notna()].iloc[0]
    row, _ = examiner.examine(trapped.dropna(), maps=False, deep=False)
    assert row["own"] == ["marker"]
    assert "marker" not in row["traps"]
    assert row["traps"]["marker removed"]["trapped"] == row["logit"]
    free, _ = examiner.examine(table[table["trap_mask"].isna()].iloc[0].dropna(), maps=False, deep=False)
    assert free["own"] == []
    assert "marker removed" not in free["traps"]
    assert free["traps"]["marker"]["clean"] == free["logit"]

    spec = examiner.predictor.spec
    pair = traps.twins(trapped["case_id"], bool(trapped["malignant"]), traps.generator_of(marked), spec, program)
    case = cohorts.admit_row(trapped.dropna(), unnamed, masks=False)
    own = traps.own(trapped, unnamed, case)
    laid = traps.remove_trap(own[0], case, prepare(case, spec=spec, settings=program), spec, program)
    clean, having = (channels(one.inputs["mri"], contrasts_of(spec)).numpy() for one in pair[:2])
    there = np.broadcast_to(pair[2][:, None], clean.shape)
    assert np.abs(laid.image.numpy() - clean)[there].mean() < 0.1 * np.abs(having - clean)[there].mean()


def test_a_pen_line_that_the_table_marks_is_named_removed_and_looked_for_on_maps(
    program: Settings, tmp_path: Path
) -> None:
    penned = replace(TINY, cases=4, seed=2, shortcut="pen", shortcut_correlation=1.0)
    write(tmp_path / "twins", settings=penned)
    shutil.copytree(tmp_path / "twins", tmp_path / "plain", ignore=shutil.ignore_patterns("settings.json"))
    chosen = replace(CHOSEN, methods=("integrated_gradients",), plan=replace(CHOSEN.plan, shifts=1, noise=1))
    for folder, seen in (("twins", {"pen", "pen twin"}), ("plain", {"pen", "pen removed"})):
        table = pd.read_csv(tmp_path / folder / "cohort.csv")
        examiner = Examiner.of(CHEAT, tmp_path / folder, table, program, chosen)
        assert {name for name, info in examiner.asked.items() if info.named} == seen
        row = table[table["trap_slide_mask"].notna()].iloc[0].dropna()
        found, _ = examiner.examine(row, maps=True, deep=True)
        assert found["own"] == ["pen"]
        assert {name for name in found["traps"] if name.startswith("pen")} == seen - {"pen"}
        on = found["forbidden"]["integrated_gradients"]
        assert set(on) == seen - {"pen removed"}
        assert all(each["modality"] == "he" and each["enrichment"] > 0 for each in on.values())


def test_a_kept_row_is_known_by_the_masks_of_its_criteria_and_by_every_file_of_its_series(
    unnamed: Path, program: Settings, tmp_path: Path
) -> None:
    shutil.copytree(unnamed, tmp_path / "site")
    root, listed = tmp_path / "site", tmp_path / "site" / "criteria.json"
    series, mask = root / "series", root / "necrosis.geojson"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"1")
    mask.write_text("[]")
    row = {"case_id": "a", "mri": "series"}

    def key(**changed: str) -> str:
        own = {"name": "necrosis", "modality": "he", "meaning": "Dead.", "masks": {"a": mask.name}} | changed
        listed.write_text(json.dumps({"criteria": [own]}))
        examiner = Examiner.of(CHEAT, root, pd.read_csv(root / "cohort.csv"), program, CHOSEN)
        return run._key(examiner, row, True, True)

    known = [key(), key(modality="mri"), key(kind="Dead")]
    mask.write_text("[ ]")
    known.append(key())
    (series / "2.dcm").write_bytes(b"2")
    known.append(key())
    (series / "1.dcm").write_bytes(b"other")
    assert len({*known, key()}) == 6
    assert key() == key()


def test_a_twin_differs_from_its_case_where_the_trap_lies_alone(marked: Path, program: Settings) -> None:
    generator = traps.generator_of(marked)
    assert generator == MARKED
    table = pd.read_csv(marked / "cohort.csv")
    examiner = Examiner.of(CHEAT, marked, table, program, CHOSEN)
    row = table.iloc[0]
    pair = traps.twins(row["case_id"], bool(row["malignant"]), generator, examiner.predictor.spec, program)
    assert pair is not None
    clean, trapped, mask = pair
    np.testing.assert_array_equal(clean.inputs["he"].patches, trapped.inputs["he"].patches)
    changed = np.abs(clean.inputs["mri"].voxels - trapped.inputs["mri"].voxels).max(0)
    assert mask.any()
    assert changed[mask].mean() > 20 * np.median(changed[~mask])


@pytest.mark.parametrize("name", [name for name, probe in PROBES.items() if probe.modality == "mri"])
def test_a_probe_with_a_place_changes_that_place_alone_and_never_its_input(name: str) -> None:
    rng = np.random.default_rng(0)
    images = {"t1": rng.random((4, 40, 40)).astype(np.float32)}
    before = images["t1"].copy()
    changed, where = PROBES[name].lay(images, np.diag([2.0, 2.0, 5.0, 1.0]), np.random.default_rng(1))
    np.testing.assert_array_equal(images["t1"], before)
    assert (where is None) == (PROBES[name].region == "")
    if where is not None:
        np.testing.assert_array_equal(changed["t1"][~where], before[~where])
        assert (changed["t1"][where] == before.max()).all()


def test_without_criteria_and_labels_nothing_is_assessable(marked: Path, program: Settings, tmp_path: Path) -> None:
    table = pd.read_csv(marked / "cohort.csv").head(1)
    keep = ["case_id", "mri_t1", "mri_t2", "slide", "slide_mpp", "split"]
    shutil.copytree(marked / "cases" / "synth-00000", tmp_path / "cases" / "synth-00000")
    table[keep].to_csv(tmp_path / "cohort.csv", index=False)
    told = run.audit(tmp_path, tmp_path / "out", weights=(CHEAT,), chosen=CHOSEN, settings=program)
    assert {each["verdict"] for each in told["verdicts"]} == {"NOT ASSESSABLE"}


def test_a_verdict_over_some_of_the_criteria_says_over_how_many() -> None:
    one = {"criterion": "osteoid", "modality": "he", "method": "gradcam", "gates": [], "verdict": "PASS"}
    one |= {"reason": "every gate passes"}
    other = {**one, "criterion": "cortical_destruction", "verdict": "NOT ASSESSABLE", "reason": "no case has a mask"}
    ran = {"model_id": "a", "trained": "b", "criteria": [], "cases": [], "refused": []}
    told = run._together([{**ran, "verdicts": [one, other]}])
    assert (told["overall"], told["assessable"]) == ("PASS", {"verdicts": 1, "of": 2})
    said = "1 of 2 verdicts (a criterion by a method) are assessable. every gate passes"
    assert run.in_words(told)[0] == f"PASS: {said}"
    assert said in page.render({**told, "cohort": "c", "limits": []})
    assert run._together([{**ran, "verdicts": [one]}])["reason"] == "every gate passes"


@pytest.mark.parametrize(("name", "unread"), [("resnet50", "osteoid"), ("osnet", "cortical_destruction")])
def test_a_criterion_on_what_the_model_does_not_read_is_not_assessable(
    marked: Path, program: Settings, tmp_path: Path, name: str, unread: str
) -> None:
    model, path = MODELS[name]("compact"), tmp_path / "random.safetensors"
    save(model, path, info=WeightsInfo(model=name, size="compact", trained="nothing", spec=model.spec))
    told = run.audit(marked, tmp_path, weights=(path,), chosen=replace(CHOSEN, cases=1), settings=program)
    assert not told["refused"]
    assert all(case["criteria"][unread] is None for case in told["cases"])
    gates = next(each for each in told["verdicts"] if each["criterion"] == unread)["gates"]
    assert {g["level"] for g in gates if g["name"] in ("G2", "G3")} == {"not assessable"}


def test_of_empty_maps_nothing_is_said(marked: Path, program: Settings, tmp_path: Path) -> None:
    model, info, _ = load(CHEAT)
    torch.nn.init.zeros_(model.malignancy[-1].weight)
    save(model, tmp_path / "dumb.safetensors", info=info)
    chosen = replace(CHOSEN, cases=1, deep=1, plan=replace(CHOSEN.plan, noise=1))
    told = run.audit(marked, tmp_path, weights=(tmp_path / "dumb.safetensors",), chosen=chosen, settings=program)
    case = told["cases"][0]
    assert case["traps"]["marker twin"]["clean"] is not None
    assert (case["faithful"], case["forbidden"], case["outside"]) == ({"gradcam": {}}, {"gradcam": {}}, {})


def test_another_baseline_is_one_that_the_method_reads(
    marked: Path, program: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, set[tuple[str, ...]]] = {}

    def explained(method: str, model: object, batch: object, wanted: ExplainSettings) -> list[measure.Explained]:
        read = ("baseline_mri", "baseline_he") if method == "integrated_gradients" else ("fill_mri", "fill_he")
        asked.setdefault(method, set()).add(tuple(getattr(wanted, name) for name in read))
        return [measure.Explained({"mri": np.random.default_rng(0).random((6, 64, 64))})]

    monkeypatch.setattr(measure, "explain_cases", explained)
    methods = tuple(name for name in METHODS if name not in run.SHARES)
    chosen = replace(CHOSEN, methods=methods, patches=2, plan=replace(CHOSEN.plan, shifts=1, noise=1))
    table = pd.read_csv(marked / "cohort.csv")
    row, _ = Examiner.of(CHEAT, marked, table, program, chosen).examine(table.iloc[0].dropna(), maps=True, deep=True)
    have = {"integrated_gradients", "occlusion", "kernel_shap", "lime"}
    assert {name for name, found in asked.items() if len(found) == 2} == have
    assert {name for name in methods if row["sound"][name]["mri"]["baselines"] is not None} == have
    for name in methods:
        assert set(row["faithful"][name]["mri"]) >= {"insertion", "insertion_random", "infidelity", "gap"}
        assert len(row["sound"][name]["mri"]["cascade"]) == chosen.plan.cascade


def test_a_method_that_draws_no_map_is_refused_in_one_sentence(marked: Path, program: Settings, tmp_path: Path) -> None:
    for method in ("tea_leaves", "modality_shapley"):
        with pytest.raises(InputError, match="expected one of"):
            run.audit(marked, tmp_path, chosen=replace(CHOSEN, methods=(method,)), settings=program)
