"""Reviews: nothing saved is changed or lost, on SQLite and on a real PostgreSQL; agreement as others compute it."""

from __future__ import annotations

import csv
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import StringIO

import numpy as np
import postgres
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from places import ROOT
from sklearn.metrics import cohen_kappa_score

from cmssd_core.evaluation.raters import ac1, cohen, equal_answers, kappa
from cmssd_core.reviews.agreement import MALIGNANT, SEVERITY, TIER, between_readers, with_model
from cmssd_core.reviews.record import Reading, Verdict, reader_name
from cmssd_core.reviews.store import Reviews, open_at
from cmssd_core.reviews.table import as_csv
from cmssd_core.types import InputError

TIERS = (("low", 0.0), ("moderate", 25.0), ("high", 50.0))
MODEL = "cmssd-compact-0123456789ab"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[postgres.Server]:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with postgres.server() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path) -> str:
    """A database of this test's own."""
    if request.param == "sqlite":
        return str(tmp_path / "kept" / "reviews.sqlite")
    running = request.getfixturevalue("postgresql")
    name = "test_" + "".join(c for c in tmp_path.name if c.isalnum()).lower()
    engine = sa.create_engine(running.url.replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return running.url.rsplit("/", 1)[0] + f"/{name}"


@pytest.fixture
def reviews(place) -> Iterator[Reviews]:
    opened = open_at(place)
    yield opened
    opened.close()


def reading(
    reader: str = "anna", case: str = "c" * 64, severity: float | None = 30.0, *, blind=True, **marks
) -> Reading:
    return Reading(reader, case, MODEL, severity, {MALIGNANT: "present", **marks}, blind)


def verdict(of: Reading, *, answer="agree", reason="", says=40.0, p=0.9, **rest) -> Verdict:
    return Verdict(of.token, MODEL, says, p, answer, reason, **rest)


def test_what_is_saved_is_read_back_as_it_was_with_its_time_in_utc(reviews):
    kept = reviews.add_reading(reading(osteoid="not assessable"))
    said = reviews.add_verdict(verdict(kept, answer="override", reason="the map misses the breach; „Größe“", says=None))
    assert reviews.readings() == (kept,)
    assert reviews.verdicts() == (said,)
    assert kept.at is not None
    assert kept.at.utcoffset().total_seconds() == 0
    assert kept.at < said.at
    assert reviews.reading_of("anna", "c" * 64) == kept
    assert reviews.reading_of("berta", "c" * 64) is None


def test_the_same_save_twice_is_kept_once(reviews):
    one = reading()
    assert reviews.add_reading(one) == reviews.add_reading(one)
    said = verdict(one)
    assert reviews.add_verdict(said) == reviews.add_verdict(said)
    assert (len(reviews.readings()), len(reviews.verdicts())) == (1, 1)


def test_a_reader_reads_a_case_once_and_others_may_too(reviews):
    reviews.add_reading(reading())
    with pytest.raises(InputError, match="a second reading of this case"):
        reviews.add_reading(reading(severity=80.0))
    reviews.add_reading(reading("berta"))
    assert [r.severity_pct for r in reviews.readings()] == [30.0, 30.0]


def test_a_verdict_needs_its_reading(reviews):
    with pytest.raises(InputError, match="save the reading first"):
        reviews.add_verdict(verdict(reading()))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cmssd_reading SET severity_pct = 99",
        "DELETE FROM cmssd_reading",
        "UPDATE cmssd_verdict SET answer = 'agree'",
        "DELETE FROM cmssd_verdict",
        "TRUNCATE cmssd_verdict",
        "INSERT OR REPLACE INTO cmssd_reading SELECT number, token, at, reader, case_id, model_id, blind, 99, marks "
        "FROM cmssd_reading",
    ],
)
def test_the_database_itself_refuses_to_change_or_delete(reviews, place, statement):
    kept = reviews.add_reading(reading())
    said = reviews.add_verdict(verdict(kept, answer="override", reason="no"))
    only = {"TRUNCATE": "postgresql", "INSERT": "sqlite"}.get(statement.split()[0])
    dialect = "postgresql" if place.startswith("postgresql") else "sqlite"
    if only not in (None, dialect):
        return  # the other database has no such statement
    if dialect == "sqlite":  # by another program, with settings of its own
        other = sqlite3.connect(place)
        with pytest.raises(sqlite3.Error, match="append-only"):
            other.execute(statement)
        other.close()
    else:
        engine = sa.create_engine(place.replace("://", "+psycopg://"))
        with pytest.raises(sa.exc.SQLAlchemyError, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()
    assert (reviews.readings(), reviews.verdicts()) == ((kept,), (said,))


WRITER = """
import sys
from cmssd_core.reviews.record import Reading
from cmssd_core.reviews.store import open_at
place, reader, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True); sys.stdin.readline()
reviews = open_at(place)
for n in range(count):
    kept = reviews.add_reading(Reading(reader, f"{n:064x}", "m", n % 101, {"osteoid": "present"}, True))
    print(kept.token, flush=True)
"""


def writer(place: str, reader: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, place, reader, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def start(*writers: subprocess.Popen[str]) -> None:
    """Lets them all begin at once, the making of the database included."""
    for each in writers:
        assert each.stdout.readline() == "ready\n"
    for each in writers:
        each.stdin.write("\n")
        each.stdin.flush()


def test_two_readers_at_once_lose_nothing(place):
    writers = [writer(place, name, 40) for name in ("anna", "berta")]
    start(*writers)
    told = [each.communicate(timeout=120)[0].split() for each in writers]
    assert [each.returncode for each in writers] == [0, 0]
    reviews = open_at(place)
    assert sorted(r.token for r in reviews.readings()) == sorted(told[0] + told[1])
    assert len(told[0]) == len(told[1]) == 40
    reviews.close()


def test_who_opens_a_new_file_waits_for_another_who_is_making_it(tmp_path):
    path = tmp_path / "reviews.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # not yet write-ahead logging: the lock that the first of two openers holds
    later = threading.Timer(0.5, other.execute, ["COMMIT"])
    later.start()
    started = time.monotonic()
    reviews = open_at(str(path))
    assert time.monotonic() - started > 0.3
    assert reviews.readings() == ()
    reviews.close()
    later.join()
    other.close()


def test_a_killed_server_loses_no_saved_review(place):
    killed = writer(place, "anna", 100_000)
    start(killed)
    told = [killed.stdout.readline().strip() for _ in range(30)]
    os.kill(killed.pid, signal.SIGKILL)
    told += killed.communicate(timeout=30)[0].split()  # what it had said before it died
    reviews = open_at(place)
    kept = [r.token for r in reviews.readings()]
    assert kept[: len(told)] == told
    assert len(kept) <= len(told) + 1  # the one that was kept and not yet told
    reviews.add_reading(reading("berta"))  # and no lock of the dead is left
    reviews.close()


def test_a_crashed_postgresql_loses_no_saved_review(postgresql):
    reviews = open_at(postgresql.url)
    kept = [reviews.add_reading(reading(case=f"{n:064x}")) for n in range(20)]
    postgresql.stop("immediate")
    with pytest.raises(InputError, match="nothing was saved now"):
        reviews.add_reading(reading(case="f" * 64))
    postgresql.start()
    assert list(reviews.readings()) == kept
    reviews.add_reading(reading(case="f" * 64))  # and the program goes on without a restart
    assert len(reviews.readings()) == 21
    reviews.close()


def test_the_file_is_for_its_user_alone_and_every_save_reaches_the_disk(tmp_path):
    path = tmp_path / "a" / "reviews.sqlite"
    reviews = open_at(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with reviews._engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous", "busy_timeout")
        ]
    assert found == ["wal", 2, 30_000]  # 2 = FULL
    reviews.close()


def test_a_database_that_cannot_be_used_is_a_sentence_without_a_password(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    no_database = tmp_path / "picture.sqlite"
    no_database.write_bytes(b"no database at all" * 100)
    for place in (str(blocked / "reviews.sqlite"), str(no_database), "mysql://u:geheim@h/d", "no database://geheim",
                  "postgresql://u:geheim@127.0.0.1:1/d"):  # fmt: skip
        with pytest.raises(InputError) as mistake:
            open_at(place)
        assert "geheim" not in str(mistake.value)
        assert len(str(mistake.value).splitlines()) == 1


def test_a_database_of_another_version_is_refused(tmp_path):
    place = str(tmp_path / "reviews.sqlite")
    open_at(place).close()
    raw = sqlite3.connect(place)
    raw.execute("UPDATE cmssd_review_schema SET version = 2")
    raw.commit()
    raw.close()
    with pytest.raises(InputError, match="version"):
        open_at(place)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: reading(severity=101.0),
        lambda: reading(severity=float("nan")),
        lambda: reading(osteoid="perhaps"),
        lambda: verdict(reading(), answer="override", reason="  "),
        lambda: verdict(reading(), answer="maybe"),
        lambda: verdict(reading(), reason="x" * 2001),
        lambda: reader_name(" a "),
        lambda: reader_name("\u200b\u200b"),
    ],
)
def test_what_no_reader_can_mean_is_refused_in_a_sentence(wrong):
    with pytest.raises(InputError, match="expected"):
        wrong()


def test_a_reader_is_one_whatever_capitals_and_spaces():
    assert reader_name("  Reader  ONE ") == reader_name("reader one") == "reader one"


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40)


@given(rows=pairs, weights=st.sampled_from([None, "linear", "quadratic"]))
@hypothesis_settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore:.*cohen_kappa_score.*")
def test_kappa_is_scikit_learns(rows, weights):
    a, b = np.array(rows, dtype=float).T
    ours = cohen(a, b, 4, weights)
    theirs = cohen_kappa_score(a, b, weights=weights, labels=[0, 1, 2, 3])
    assert ours is None if np.isnan(theirs) else ours == pytest.approx(theirs, abs=1e-12)


def from_table(table: list[list[int]]) -> np.ndarray:
    return np.array([(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)], float)


def test_the_paradox_of_kappa_is_gwets():
    """Gwet 2008 (Br J Math Stat Psychol 61), two raters, 125 cases: kappa -0.0234, AC1 0.9408, agreement 0.944."""
    rated = from_table([[118, 5], [2, 0]])
    assert kappa(rated, 2).value == pytest.approx(-0.0234, abs=5e-5)
    assert ac1(rated, 2).value == pytest.approx(0.9408, abs=5e-5)
    assert equal_answers(rated).value == pytest.approx(0.944)


def test_ac1_of_four_raters_with_missing_answers_is_the_published_one():
    """Gwet, Handbook of Inter-Rater Reliability (4th ed., 2014): AC1 0.77544, SE 0.14295."""
    _ = np.nan
    rated = np.array([
        [1, 1, _, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
        [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [_, 5, 5, 5], [_, _, 1, 1], [_, _, 3, _],
    ]) - 1  # fmt: skip
    found = ac1(rated, 5)
    assert found.value == pytest.approx(0.77544, abs=5e-6)
    assert found.low == pytest.approx(0.77544 - 2.200985 * 0.14295, abs=5e-4)
    assert found.high == 1.0
    assert found.n == 12


def test_ac1s_interval_covers_what_it_says():
    """Two raters who answer alike in 80 % of cases: the interval holds AC1's limit about 95 times of 100."""
    rng, held = np.random.default_rng(4), 0
    for _ in range(400):
        one = rng.integers(0, 2, 60)
        other = np.where(rng.random(60) < 0.8, one, 1 - one)
        found = ac1(np.stack([one, other], axis=1).astype(float), 2)
        held += found.low <= 0.6 <= found.high  # chance agreement of two even answers is 1/2: (0.8 - 0.5) / 0.5
    assert 0.91 <= held / 400 <= 0.98


def test_kappa_is_not_defined_where_all_answers_are_one_and_says_so():
    same = np.zeros((20, 2))
    assert kappa(same, 3).value is None
    assert "not defined" in kappa(same, 3).reason
    assert ac1(same, 3).value == 1.0


def read_by(reader: str, severities: list[float | None], marks: list[str], *, blind: bool = True) -> list[Reading]:
    return [
        reading(reader, f"{n:064x}", severity, blind=blind, osteoid=mark)
        for n, (severity, mark) in enumerate(zip(severities, marks, strict=True))
    ]


def test_readers_agreement_is_over_cases_both_read_blind():
    severity = [5.0, 10, 30, 40, 60, 70, 80, 90, 20, None]
    marks = ["present", "absent"] * 5
    anna, berta = read_by("anna", severity, marks), read_by("berta", severity, marks)[:9]
    seen = read_by("carl", severity, ["absent"] * 10, blind=False)
    found = {a.question: a for a in between_readers([*anna, *berta, *seen], TIERS)}
    assert {a.raters for a in found.values()} == {("anna", "berta")}
    assert found[SEVERITY].icc.value == pytest.approx(1.0)
    assert found[TIER].kappa.value == pytest.approx(1.0)
    assert found["osteoid"].kappa.n == 9
    assert found["osteoid"].ac1.n == 9
    assert found["osteoid"].equal.value == 1.0


def test_three_readers_are_told_in_pairs_and_together():
    rng = np.random.default_rng(0)
    answers = ("present", "absent", "not assessable")
    everyone = [
        r for name in ("anna", "berta", "carl") for r in read_by(name, list(rng.uniform(0, 100, 30)),
                                                                 [answers[i] for i in rng.integers(0, 3, 30)])
    ]  # fmt: skip
    osteoid = {a.raters: a for a in between_readers(everyone, TIERS) if a.question == "osteoid"}
    assert set(osteoid) == {("anna", "berta"), ("anna", "carl"), ("berta", "carl"), ("anna", "berta", "carl")}
    together = osteoid.pop(("anna", "berta", "carl"))
    assert together.kappa.value == pytest.approx(np.mean([a.kappa.value for a in osteoid.values()]))
    assert together.kappa.low < together.kappa.value < together.kappa.high
    for (one, other), pair in osteoid.items():
        marks = [[r.marks["osteoid"] for r in everyone if r.reader == name] for name in (one, other)]
        assert pair.kappa.value == pytest.approx(cohen_kappa_score(*marks))


def test_agreement_with_the_model_is_the_blind_readings_and_the_last_verdicts():
    marks = ["present"] * 10
    read = read_by("anna", [float(v) for v in range(0, 100, 10)], marks)
    first = [verdict(r, says=r.severity_pct, p=0.2, answer="override", reason="malignant") for r in read]
    changed = verdict(read[0], says=0.0, p=0.2)
    found = {a.question: a for a in with_model(read, [*first, changed], TIERS)}
    assert found[SEVERITY].icc.value == pytest.approx(1.0)
    assert found[SEVERITY].raters == ("anna", MODEL)
    assert found[MALIGNANT].equal.value == 0.0
    assert found[MALIGNANT].kappa.value == pytest.approx(0.0)
    assert found["verdict on the model"].equal.value == pytest.approx(0.1)
    assert found["verdict on the model"].equal.low < 0.1 < found["verdict on the model"].equal.high


def test_the_table_holds_every_review_and_no_formula():
    one, two = reading(osteoid="absent"), reading("berta", severity=None, blind=False)
    table = as_csv([one, two], [verdict(one, answer="override", reason='=HYPERLINK("x")\nsecond line'), verdict(one)])
    rows = list(csv.DictReader(StringIO(table)))
    assert [r["reader"] for r in rows] == ["anna", "anna", "berta"]
    assert rows[0]["reason"] == '\'=HYPERLINK("x")\nsecond line'
    assert rows[1]["answer"] == "agree"
    assert (rows[2]["severity_pct"], rows[2]["answer"], rows[2]["blind"]) == ("", "", "no")
    assert rows[2]["criterion: osteoid"] == ""
    assert rows[0]["criterion: osteoid"] == "absent"
