"""Laws of SUV: the factor agrees with a hand computation, and no header short of a fact gives one."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from cmssd_core.volume.dicom.uptake import read_pet_header, suv_factor

HALF_LIFE_S = 6586.2  # of fluorine-18


def header(*, tracer=None, **fields):
    ds, injected = Dataset(), Dataset()
    said = {"RadionuclideTotalDose": 400e6, "RadionuclideHalfLife": HALF_LIFE_S}
    said["RadiopharmaceuticalStartTime"] = "083000"
    for key, value in (said | (tracer or {})).items():
        if value is not None:
            setattr(injected, key, value)
    said = {
        "Units": "BQML", "DecayCorrection": "START", "CorrectedImage": ["DECY", "ATTN", "SCAT"], "PatientWeight": "80",
        "SeriesDate": "20260103", "SeriesTime": "093000.000", "AcquisitionDate": "20260103",
        "AcquisitionTime": "093000", "RadiopharmaceuticalInformationSequence": [injected],
    }  # fmt: skip
    for key, value in (said | fields).items():
        if value is not None:
            setattr(ds, key, value)
    return read_pet_header(ds)


def expected(minutes):
    return 80_000 / (400e6 * 0.5 ** (60 * minutes / HALF_LIFE_S))


@pytest.mark.parametrize(
    ("head", "minutes"),
    [
        (header(), 60),
        (header(tracer={"RadiopharmaceuticalStartDateTime": "20260103084500"}), 45),
        (header(tracer={"RadiopharmaceuticalStartDateTime": "20260103084500.50+0100"}), 44.99167),
        (header(tracer={"RadiopharmaceuticalStartTime": "235500"}, SeriesTime="004000", AcquisitionTime="004000"), 45),
        # A series derived after the scan bears the time of its making; the scan's own is that of its first picture.
        (header(SeriesTime="151500"), 60),
        (header(AcquisitionTime="094500"), 60),
        (header(SeriesTime=None, SeriesDate=None), 60),
        (header(DecayCorrection="ADMIN"), 0),
        (header(DecayCorrection="ADMIN", tracer={"RadiopharmaceuticalStartTime": None}), 0),
    ],
)
def test_the_factor_is_weight_over_the_dose_decayed_to_the_scan(head, minutes):
    factor, how = suv_factor([head])
    assert factor == pytest.approx(expected(minutes), rel=1e-6)
    assert "Bq/mL by weight and dose" in how


def test_the_first_picture_of_a_series_says_when_the_scan_began():
    beds = [header(SeriesTime="151500", AcquisitionTime=time) for time in ("094000", "093000", "093500")]
    assert suv_factor(beds)[0] == pytest.approx(expected(60))


def test_what_is_suv_already_stays_as_it_is():
    assert suv_factor([header(Units="GML")])[0] == 1
    assert suv_factor([header(Units="GML", SUVType="BW", PatientWeight=None)])[0] == 1


def test_counts_take_the_makers_own_factor():
    ds = Dataset()
    ds.Units = "CNTS"
    ds.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x00, "DS", "0.00025")
    assert suv_factor([read_pet_header(ds)])[0] == pytest.approx(0.00025)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (header(PatientWeight=None), "does not say the weight"),
        (header(PatientWeight="0"), "does not say the weight"),
        (header(PatientWeight="80000"), "no credible weight"),
        (header(tracer={"RadionuclideTotalDose": None}), "does not say the dose"),
        (header(tracer={"RadionuclideTotalDose": 400}), "no credible dose"),
        (header(tracer={"RadionuclideHalfLife": None}), "does not say the half-life"),
        (header(tracer={"RadiopharmaceuticalStartTime": None}), "when the injection"),
        (header(tracer={"RadiopharmaceuticalStartTime": "lunch"}), "when the injection"),
        (header(tracer={"RadiopharmaceuticalStartDateTime": "20260104084500"}), "do not fit together"),
        (header(tracer={"RadiopharmaceuticalStartDateTime": "20251203084500"}), "do not fit together"),
        (header(DecayCorrection="NONE"), "not corrected for decay"),
        (header(CorrectedImage=["DECY"]), "not corrected for attenuation"),
        (header(Units="CNTS"), "its unit is CNTS"),
        (header(Units=None), "its unit is not said"),
        (header(Units="GML", SUVType="LBM"), "SUV by LBM"),
        (header(RadiopharmaceuticalInformationSequence=None), "does not say the dose"),
    ],
)
def test_a_header_short_of_a_fact_gives_no_factor_and_says_which(head, why):
    factor, how = suv_factor([head])
    assert factor is None
    assert why in how


def test_slices_of_two_injections_give_no_factor():
    factor, how = suv_factor([header(), header(tracer={"RadionuclideTotalDose": 300e6})])
    assert factor is None
    assert "differ" in how
