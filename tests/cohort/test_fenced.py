"""Laws of examining an uploaded table behind the fence: the report is the one made here."""

from __future__ import annotations

from cmssd_core.cohort import check, fenced
from cmssd_core.machine.fence import Fence


def test_the_report_behind_the_fence_is_the_report(tmp_path):
    table = tmp_path / "cohort.csv"
    table.write_text("case_id,patient_id,malignant,fold\na 1,A,3,0\nb,B,1,1\n", encoding="utf-8")
    here = check.check(table, root=tmp_path)
    assert len(here.problems) >= 2
    assert fenced.check(table, fence=Fence(), root=tmp_path) == here
    assert fenced.check(table, fence=Fence(), root=None) == check.check(table, root=None)
