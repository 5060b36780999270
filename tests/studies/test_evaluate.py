"""cmssd evaluate: keys as promised, one preparation, killed and resumed; an awkward cohort is a sentence or a null."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import showcase
import torch
from tiny import tiny_cohort

from cmssd_core.cases.collate import collate
from cmssd_core.cases.prepare import prepare
from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.corruptions.cases import variants
from cmssd_core.corruptions.table import CORRUPTIONS
from cmssd_core.evaluation.distance import fit
from cmssd_core.evaluation.overlap import dice
from cmssd_core.evaluation.repeats import apart
from cmssd_core.evaluation.summary import summarise
from cmssd_core.inference import calibration as calibration_file
from cmssd_core.inference import confidence
from cmssd_core.inference import predict as inference
from cmssd_core.inference.calibration import Calibration, Limits
from cmssd_core.models import MODELS, Model
from cmssd_core.models import weights as weights_file
from cmssd_core.report.evaluation import render, words
from cmssd_core.studies import card as model_card
from cmssd_core.studies import run as cohort_run
from cmssd_core.studies.calibrate import _limits, calibrate
from cmssd_core.studies.evaluate import Metrics, evaluate, in_words
from cmssd_core.studies.run import RunSettings
from cmssd_core.types import Case, InputError, PatchBag, Volume

FAST = Settings(n4=False, max_patches=2)
ONE = RunSettings(workers=1)
TOP = ("accuracy", "auc", "dice", "iou", "hd95_mm", "severity_mae", "sensitivity", "specificity", "brier")


def run(cohort: Path, out: Path, chosen: RunSettings = ONE, **more: object) -> dict:
    return evaluate(cohort, out, chosen=chosen, settings=FAST, **more)


def with_table(cohort: Path, folder: Path, **columns: object) -> Path:
    """The same cohort under a changed table, files linked."""
    folder.mkdir(exist_ok=True)
    (folder / "cases").symlink_to(cohort / "cases")
    pd.read_csv(cohort / "cohort.csv").assign(**columns).to_csv(folder / "cohort.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cohort(tmp_path_factory.mktemp("tested"), split="test", cases=5, seed=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def told(tested: Path, folder: Path) -> dict:
    return run(tested, folder)


def test_every_key_that_was_promised_is_a_figure(told: dict) -> None:
    parts = [told, *told["by_modality"].values()]
    figures = [part[name] for part in parts for name in TOP]
    figures += [told["malignant_only"][name] for name in ("dice", "severity_mae")]
    for figure in figures:
        assert {"value", "low", "high", "n"} <= set(figure)
        assert figure["value"] is not None or figure["reason"]
    assert set(told["by_modality"]) == {"mri_only", "he_only"}
    assert told["oracle"]["auc_both"]["n"] == 5
    assert told["by_modality"]["he_only"]["dice"]["value"] is None  # no MRI, no map
    assert told["seconds"].keys() >= {"read", "prepare", "network", "maps"}
    assert next(iter(told["models"].values()))["parameters"] > 1_000_000


def test_figures_are_those_of_predicting_case_by_case(tested: Path, told: dict) -> None:
    predictor = inference.load()
    table = cohorts.read(tested)
    right, overlaps, errors = [], [], []
    for _, row in table.iterrows():
        case = cohorts.admit_row(row, tested)
        found = inference.predict(case, predictor, settings=FAST)
        right.append((found.p_malignant >= 0.5) == case.truth.labels["malignant"])
        overlaps.append(dice(found.maps["tumour"] >= 0.5, case.truth.masks["tumour"]))
        if found.severity_pct is not None:
            errors.append(abs(found.severity_pct - float(row["severity_pct"])))
        else:
            errors.append(max(row["severity_pct"], 100 - row["severity_pct"]))
    assert told["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert told["dice"]["value"] == pytest.approx(np.mean(overlaps), abs=1e-6)
    assert told["severity_mae"]["value"] == pytest.approx(np.mean(errors), abs=1e-4)


def test_figures_in_words_stand_in_columns_however_long_a_model_is_named(told: dict) -> None:
    lines = in_words(Metrics({**told, "against": {"resnet50-compact (another)": told}}))
    figure = words(told["accuracy"])
    starts = {line.index(figure) for line in lines if line.startswith(("both", "resnet50"))}
    assert starts == {lines[0].index("Accuracy")}


def test_files_appear_and_nothing_is_fetched_by_the_page(tested: Path, tmp_path: Path) -> None:
    told = run(tested, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == json.loads(json.dumps(told))
    rows = pd.read_parquet(tmp_path / "predictions.parquet")
    assert set(rows["given"]) == {"both", "mri", "he"}
    assert len(rows) == 15
    text = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    assert "Research use only" in text
    assert "http" not in text
    assert "<script" not in text


def test_a_case_is_prepared_once_for_all_conditions_and_weights(
    tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    whole = cohort_run.prepare
    monkeypatch.setattr(cohort_run, "prepare", lambda *a, **k: calls.append(1) or whole(*a, **k))
    other = tmp_path / "other.safetensors"
    model, info, _ = weights_file.load(weights_file.DEFAULT)
    with torch.no_grad():
        model.malignancy[-1].bias += 0.5
    weights_file.save(model, other, info=info)
    told = run(tested, tmp_path / "out", against=(other,))
    assert len(calls) == 5
    (name,) = told["against"]
    assert told["against"][name]["mcnemar"]["n"] == 5
    assert "value" in told["against"][name]["auc_difference"]


def test_a_run_killed_at_any_moment_goes_on_where_it_stopped(tested: Path, told: dict, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from cmssd_core.config import Settings; "
        "from cmssd_core.studies.evaluate import evaluate; from cmssd_core.studies.run import RunSettings; "
        f"evaluate(Path({str(tested)!r}), Path({str(tmp_path)!r}), chosen=RunSettings(workers=1), "
        "settings=Settings(n4=False, max_patches=2))"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("parts/[!.]*.json")) and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/[!.]*.json")}
    assert kept
    again = run(tested, tmp_path)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    for name in TOP:
        assert again[name] == pytest.approx(told[name])


def test_workers_give_what_one_process_gives(tested: Path, told: dict, tmp_path: Path) -> None:
    found = run(tested, tmp_path, RunSettings(workers=2))
    for name in TOP:
        assert found[name]["value"] == pytest.approx(told[name]["value"], abs=1e-4)


def test_what_is_dropped_is_hidden_from_every_model(tested: Path, told: dict, tmp_path: Path) -> None:
    found = run(tested, tmp_path, RunSettings(workers=1, drop="he"))
    assert found["brier"] == pytest.approx(told["by_modality"]["mri_only"]["brier"])
    assert found["by_modality"]["he_only"]["accuracy"]["n"] == 0


def test_a_cohort_without_labels_or_masks_gives_nulls_with_reasons(tested: Path, tmp_path: Path) -> None:
    masks = dict.fromkeys((*cohorts.MASK_COLUMNS, "malignant", "severity_pct", "split"))
    found = run(with_table(tested, tmp_path / "bare", **masks), tmp_path / "out")  # and no split: every case counts
    assert found["cases"] == 5
    assert all(found[name]["value"] is None and found[name]["reason"] for name in TOP)
    assert (tmp_path / "out" / "evaluation.html").exists()


def test_one_label_only_has_an_accuracy_and_no_area(tested: Path, tmp_path: Path) -> None:
    found = run(with_table(tested, tmp_path / "benign", malignant=0), tmp_path / "out")
    assert found["specificity"]["n"] == 5
    assert "one label" in found["auc"]["reason"]
    assert found["sensitivity"]["value"] is None


def test_one_case_with_the_slide_alone_is_evaluated(tested: Path, tmp_path: Path) -> None:
    cohort = with_table(tested, tmp_path / "one", **dict.fromkeys((*cohorts.MRI_COLUMNS, *cohorts.MASK_COLUMNS)))
    pd.read_csv(cohort / "cohort.csv").head(1).to_csv(cohort / "cohort.csv", index=False)
    found = run(cohort, tmp_path / "out", RunSettings(workers=1, corruptions=4))
    assert found["accuracy"]["n"] == 1
    assert found["accuracy"]["low"] is None
    assert found["corruptions"] == {}  # no case has both modalities


def test_a_case_that_cannot_be_read_is_told_and_the_others_count(tested: Path, tmp_path: Path) -> None:
    cohort = tmp_path / "broken"
    shutil.copytree(tested, cohort)
    (cohort / "cases/synth-00000/t1.nii.gz").write_bytes(b"no image")
    found = run(cohort, tmp_path / "out")
    assert [row["case_id"] for row in found["refused"]] == ["synth-00000"]
    assert found["accuracy"]["n"] == 4


def untrained(name: str, path: Path) -> Path:
    model = MODELS[name]("compact")
    info = weights_file.WeightsInfo(model=name, size="compact", trained="nothing", spec=model.spec)
    weights_file.save(model, path, info=info)
    return path


def test_a_case_that_the_model_does_not_read_is_told_though_others_answer_it(tested: Path, tmp_path: Path) -> None:
    table = pd.read_csv(tested / "cohort.csv").head(2)
    table.loc[0, [*cohorts.MRI_COLUMNS, *cohorts.MASK_COLUMNS]] = None
    cohort = with_table(tested, tmp_path / "cohort")
    table.to_csv(cohort / "cohort.csv", index=False)
    mri, slide = (untrained(name, tmp_path / f"{name}.safetensors") for name in ("resnet50", "osnet"))
    said = "a slide came, resnet50-compact needs an MRI; add it to the cohort, or take other weights"
    for against in ((), (slide,)):
        told = run(cohort, tmp_path / f"out{len(against)}", weights=mri, against=against)
        assert [(row["case_id"], row["why"]) for row in told["refused"]] == [(table["case_id"][0], said)]
        assert told["accuracy"]["n"] == 1
    assert told["against"]["osnet-compact"]["accuracy"]["n"] == 2
    table.head(1).to_csv(cohort / "cohort.csv", index=False)
    with pytest.raises(InputError, match=r"no case could be predicted; of .* it was said: a slide came, resnet50"):
        run(cohort, tmp_path / "none", weights=mri)


def test_a_refused_case_is_tried_again_and_an_answered_one_is_not(
    tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clean(answer: str) -> pd.DataFrame:
        def said(_: object, row: dict) -> list[dict]:
            if answer == "refused":
                raise InputError("its file is missing")
            assert answer == "given", "computed again"
            return [{"case_id": row["case_id"], "model": "m", "given": "both", "p_malignant": 0.5}]

        monkeypatch.setattr(cohort_run._Worker, "_clean", said)
        return cohort_run.run(tested, tmp_path, chosen=ONE, settings=FAST).rows

    assert clean("refused")["problem"].tolist() == ["its file is missing"] * 5
    assert clean("given")["problem"].isna().all()
    assert clean("kept")["problem"].isna().all()
    for part in (tmp_path / "parts").glob("*.json"):  # as an earlier version kept refusals
        part.write_text(json.dumps([{"case_id": part.name[:11], "problem": "its file is missing"}]), encoding="utf-8")
    assert clean("given")["problem"].isna().all()


def test_a_cohort_that_cannot_be_used_is_one_sentence(tested: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row with split = test"):
        run(with_table(tested, tmp_path / "train", split="train"), tmp_path / "out")
    with pytest.raises(InputError, match="split 'exam' came"):
        run(tested, tmp_path / "out", RunSettings(split="exam"))
    with pytest.raises(InputError, match="drop 'ct' came"):
        run(tested, tmp_path / "out", RunSettings(drop="ct"))
    slides = with_table(tested, tmp_path / "slides", **dict.fromkeys((*cohorts.MRI_COLUMNS, *cohorts.MASK_COLUMNS)))
    with pytest.raises(InputError, match="nothing is left of the case without he"):
        run(slides, tmp_path / "out", RunSettings(workers=1, drop="he"))
    assert not (tmp_path / "out" / "metrics.json").exists()


def pixels(image: object) -> np.ndarray:
    assert isinstance(image, Volume | PatchBag)
    return image.voxels if isinstance(image, Volume) else image.patches


def test_artefacts_are_put_on_raw_images_and_leave_the_other_modality_alone(tested: Path) -> None:
    case = cohorts.admit_row(cohorts.read(tested).iloc[0], tested)
    predictor = inference.load()
    clean = prepare(case, spec=predictor.spec, settings=FAST)
    seen = set()
    for name, level, raw, make in variants(case, predictor.spec, FAST, seed=0):
        if level not in (1, 5) or name in seen:
            continue
        seen.add(name)
        ready = make()
        other = "he" if name not in CORRUPTIONS or CORRUPTIONS[name].modality == "mri" else "mri"
        same, whole = (pixels(prepared.inputs[other]) for prepared in (ready, clean))
        assert np.array_equal(same, whole)
        changed = ready.inputs["mri" if other == "he" else "he"]
        before = clean.inputs["mri" if other == "he" else "he"]
        assert not np.array_equal(pixels(changed), pixels(before))
        assert raw.inputs["he"] is case.inputs["he"]
        collate([ready], predictor.spec)
    assert seen >= set(CORRUPTIONS)
    assert "without t1" in seen


def rows(alpha: list[list[float]], p: list[list[float]]) -> pd.DataFrame:
    """A made-up frame: cases by level 0 to 5 under one corruption; the first half malignant."""
    lines = []
    for case, (gates, ps) in enumerate(zip(alpha, p, strict=True)):
        for level, (gate, value) in enumerate(zip(gates, ps, strict=True)):
            lines.append(
                {
                    "case_id": f"c{case}", "patient_id": f"c{case}", "malignant": float(case < len(p) / 2),
                    "model": "m" if level == 0 else None, "given": "both" if level == 0 else None, "problem": None,
                    "corruption": "pen" if level else None, "level": level, "p_malignant": value, "gate_mean": gate,
                }
            )  # fmt: skip
    return pd.DataFrame(lines)


def test_the_trend_of_the_gate_and_the_loss_at_level_3_by_hand() -> None:
    rising, right = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0], [0.9] * 6
    falling, flat = rising[::-1], [0.5] * 6
    wrong_at_3 = [0.1, 0.1, 0.1, 0.9, 0.1, 0.1]
    found = summarise(rows([rising, falling, rising, flat], [right, right, wrong_at_3, [0.1] * 6]), "m")
    trend = found["corruption_trends"]["pen"]
    assert trend["spearman_gate_level"]["value"] == pytest.approx((1 - 1 + 1 + 0) / 4)
    assert trend["accuracy_loss_level3"]["value"] == pytest.approx(1 / 4)
    assert [row["level"] for row in found["corruptions"]["pen"]] == list(range(6))
    assert found["corruptions"]["pen"][3]["accuracy"]["value"] == 0.75


def answers(model: str, p: np.ndarray, *, per_patient: int = 1) -> pd.DataFrame:
    """What a model said of cases of which the first half are malignant."""
    n = len(p)
    return pd.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(n)], "patient_id": [f"p{i // per_patient}" for i in range(n)],
            "malignant": np.repeat([1.0, 0.0], n // 2), "model": model, "given": "both", "problem": None,
            "corruption": None, "level": 0, "p_malignant": p,
        }
    )  # fmt: skip


def page_of(frame: pd.DataFrame) -> str:
    """The page that cmssd evaluate writes, of the model "m" of a made-up frame."""
    about = {"model": "m", "model_id": "m-1", "trained": "nothing", "predicted": 1, "threshold": 0.5, "oracle": None}
    return render(
        summarise(frame, "m") | about | {"models": {}, "settings": {"split": "test", "drop": None}},
        name="cohort",
        severities=[],
    )


def test_the_share_malignant_is_as_sure_as_there_are_patients() -> None:
    found = summarise(answers("m", np.linspace(0.9, 0.1, 80), per_patient=10), "m")["prevalence"]
    alone = summarise(answers("m", np.linspace(0.9, 0.1, 80)), "m")["prevalence"]
    assert found["value"] == alone["value"] == 0.5
    assert found["high"] - found["low"] > 2 * (alone["high"] - alone["low"])


def test_models_on_several_cases_a_patient_are_compared_without_mcnemars_p() -> None:
    rng = np.random.default_rng(0)
    frames = [answers(name, rng.uniform(0, 1, 60), per_patient=2) for name in ("m", "other")]
    found = summarise(pd.concat(frames), "m")["against"]["other"]["mcnemar"]
    assert (found["p"], found["n"]) == (None, 60)
    assert "patients have several cases: no test" in page_of(pd.concat(frames))
    assert apart(frames[:1], frames[1:])["largest_p"] == {"mcnemar": None, "auc": None}


def test_a_score_without_an_interval_is_shown_with_the_reason() -> None:
    parted, flat = np.repeat([0.9, 0.1], 20), np.full(40, 0.5)
    text = page_of(pd.concat([answers("m", flat), answers("parted", parted)]))
    assert "no interval: all cases have the same score" in text
    assert "no interval, no test" in text


LIMITS = Limits(
    n=50, temperature=2.0, set_limit={"benign": 0.5, "malignant": 0.4}, severity_half={"benign": 1.0, "malignant": None}
)


def calibration(**changes: object) -> Calibration:
    cloud = fit(50 + np.random.default_rng(0).standard_normal((40, 64)), np.arange(40) < 20)
    made = Calibration(
        model_id=inference.load().model_id,
        fitted_on="50 cases",
        coverage=0.9,
        given={"mri": LIMITS},
        clouds={"mri": cloud},
        digest="d",
    )
    return replace(made, **changes)


def test_a_calibrated_answer_says_its_doubt(tested: Path) -> None:
    predictor = replace(inference.load(), calibration=None)
    case: Case = cohorts.admit_row(cohorts.read(tested).iloc[0], tested)
    case = replace(case, inputs={"mri": case.inputs["mri"]})
    bare = inference.predict(case, predictor, settings=FAST)
    found = inference.predict(case, replace(predictor, calibration=calibration()), settings=FAST)
    assert bare.uncertainty is None
    assert bare.severity_interval is None
    assert found.uncertainty is not None
    logit = np.log(bare.p_malignant / (1 - bare.p_malignant))
    assert found.p_malignant == pytest.approx(1 / (1 + np.exp(-logit / 2)), abs=1e-4)
    assert found.uncertainty["p_uncalibrated"] == pytest.approx(bare.p_malignant, abs=1e-5)
    assert found.uncertainty["ood_mri"] > found.uncertainty["ood_mri_limit"]  # the cloud is made up
    assert any("unlike the images" in finding.what for finding in found.quality)
    assert "ood_he" not in found.uncertainty
    assert (found.severity_interval is not None) == (found.p_malignant < 0.5)  # too few malignant cases to promise one


def test_features_are_the_encoders_averages_and_hooks_are_taken_off(tested: Path) -> None:
    predictor = inference.load()
    case = cohorts.admit_row(cohorts.read(tested).iloc[0], tested)
    prepared = prepare(case, spec=predictor.spec, settings=FAST)
    _, features = inference.answer_and_features(case, prepared, predictor)
    patches = collate([prepared], predictor.spec).inputs["he"][0]
    with torch.inference_mode():
        expected = predictor.model.phi_he(patches).mean(0)
    assert features["he"] == pytest.approx(expected.numpy(), abs=1e-4)
    assert set(features) == {"mri", "he", "fused"}
    with torch.inference_mode(), confidence.collect_features(predictor.model) as hooked:
        bag = torch.randn(1, 4, features["fused"].size)
        predictor.model.pool_fused(bag, torch.ones(1, 4, dtype=torch.bool))
    assert hooked["fused"][0].shape == (1, features["fused"].size)
    assert not predictor.model.pool_fused._forward_hooks
    assert not predictor.model.phi_he._forward_hooks
    without = Model()  # names no encoder
    with confidence.collect_features(without) as seen:
        assert seen == {}


def test_the_features_of_an_evaluation_are_one_row_a_case_of_what_the_model_saw(told: dict, folder: Path) -> None:
    seen = pd.read_parquet(folder / "features.parquet")
    assert seen["case_id"].is_unique
    assert len(seen) == told["predicted"]
    for column in ("mri", "he", "fused"):
        assert len({len(vector) for vector in seen[column].dropna()}) == 1
    assert not [c for c in pd.read_parquet(folder / "predictions.parquet") if c.startswith("feature_")]


def test_a_calibration_survives_the_disk_and_serves_its_own_weights_alone(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copy(weights_file.DEFAULT, weights)
    assert calibration_file.load(weights, "x") is None
    made = calibration()
    calibration_file.save(made, calibration_file.path_of(weights))
    again = calibration_file.load(weights, made.model_id)
    assert again is not None
    assert again.given == made.given
    assert again.clouds["mri"].means == pytest.approx(made.clouds["mri"].means, rel=1e-6)
    with pytest.raises(InputError, match="was fitted for"):
        calibration_file.load(weights, "other-123")
    calibration_file.path_of(weights).write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be read"):
        calibration_file.load(weights, made.model_id)


def test_calibration_is_fitted_on_val_and_its_coverage_measured_on_test(tmp_path: Path) -> None:
    cohort = tiny_cohort(tmp_path / "cohort", cases=30, seed=11)
    table = pd.read_csv(cohort / "cohort.csv")
    table["split"] = ["val"] * 24 + ["test"] * 6
    table.to_csv(cohort / "cohort.csv", index=False)
    (tmp_path / "run").mkdir()
    weights = showcase.weights(tmp_path / "run", size="tiny")
    (weights.parent / "config.json").write_text('{"seed": 1, "draw": {"slices": 4}}', encoding="utf-8")
    path = calibrate(cohort, tmp_path / "fit", weights=weights, workers=1, settings=FAST)
    found = calibration_file.load(weights, inference.load(weights).model_id)
    assert found is not None
    assert path == calibration_file.path_of(weights)
    assert set(found.given) == {"both", "mri", "he"}
    assert set(found.clouds) == {"mri", "he"}
    told = run(cohort, tmp_path / "out", weights=weights)
    assert told["uncertainty"]["set_single"]["n"] == 6
    assert 0 <= told["uncertainty"]["flagged_mri"]["value"] <= 1
    text = model_card.card(weights_file.load(weights)[1], weights.parent, told, calibrated_on=found.fitted_on)
    assert "24 cases of the val split" in text
    assert "| Accuracy at threshold 0.5 |" in text


@pytest.mark.parametrize("name", MODELS)
def test_a_card_says_what_its_own_model_reads_and_gives(name: str, tmp_path: Path) -> None:
    kind = MODELS[name]
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    info = weights_file.WeightsInfo(model=name, size="compact", trained="nothing", spec=kind("compact").spec)
    text = model_card.card(info, tmp_path, None)
    assert ("tumour map" in text) == ("tumour" in kind.tasks)
    assert ("bone map" in text) == ("bone" in kind.tasks)
    assert ("severity" in text.split("##")[0]) == ("severity_pct" in kind.tasks)
    assert ("MRI contrasts" in text) == ("mri" in kind.needs)
    assert ("H&E patches" in text) == ("he" in kind.needs)
    assert "seed paper" not in text


def test_a_promise_counts_each_patient_once_by_the_worst_of_his_cases() -> None:
    rng = np.random.default_rng(0)
    label, who = np.arange(120) < 24, np.arange(120) // 3  # 8 malignant patients, 32 benign ones, three cases each
    frame = pd.DataFrame(
        {
            "patient_id": [f"p{i}" for i in who], "malignant": label.astype(float), "maps": True,
            "p_malignant": np.where(label, 0.9, 0.1) + rng.uniform(-0.05, 0.05, 120),
            "severity_pct": 10.0, "severity_true": 10 + rng.uniform(0, 5, 120),
        }
    )  # fmt: skip
    found = _limits(frame, 0.9)
    assert found is not None
    worst = (frame["severity_true"] - 10)[~label].groupby(who[~label]).max()
    assert found.severity_half["benign"] == pytest.approx(sorted(worst)[30 - 1])  # ceil(33 x 0.9) of 32
    assert found.severity_half["malignant"] is None  # 8 patients cannot promise 90 %
    assert found.set_limit["malignant"] is None
    assert _limits(frame[who < 16], 0.9) is None  # 16 patients in 48 cases


def test_too_small_a_val_split_is_refused(tested: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copy(weights_file.DEFAULT, weights)
    small = with_table(tested, tmp_path / "small", split="val")
    with pytest.raises(InputError, match="expected at least 20 with both labels"):
        calibrate(small, tmp_path / "fit", weights=weights, workers=1, settings=FAST)
