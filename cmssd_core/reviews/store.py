"""Where reviews are kept: SQLite by default, PostgreSQL by URL; what is saved is never changed and never lost."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from cmssd_core.reviews.record import Reading, Verdict
from cmssd_core.reviews.schema import READINGS, VERDICTS, create
from cmssd_core.types import InputError

#: How long one reader's save waits for another's.
BUSY_S = 30.0
#: Columns the reader's side fills; the store gives number and time.
_GIVEN = {t.name: [c.name for c in t.columns if c.name not in ("number", "at")] for t in (READINGS, VERDICTS)}
_LOCK = 0x436D5353  # of PostgreSQL's advisory locks: one process at a time makes the tables


class Reviews:
    """The reviews of one database, shared by threads and processes; each call is one transaction, kept when it returns.

    where: what to call the database on screen, without a password.
    """

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine, self.where = engine, where
        with self._writing("opening the reviews") as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            create(connection)

    def add_reading(self, reading: Reading) -> Reading:
        """Keeps a reading and gives it with its time; the same token again changes nothing.

        InputError where this reader has read this case before: a second reading would not be blind.
        """
        row = {name: getattr(reading, name) for name in _GIVEN[READINGS.name]}
        row["marks"] = dict(reading.marks)
        at = self._add(READINGS, row)
        if at is None:
            before = self.reading_of(reading.reader, reading.case_id)
            day = "" if before is None or before.at is None else f" on {before.at:%Y-%m-%d}"
            raise InputError(
                f"a second reading of this case came, {reading.reader} read it{day}; a reading is kept once, "
                "so choose another case"
            )
        return replace(reading, at=at)

    def add_verdict(self, verdict: Verdict) -> Verdict:
        """Keeps a verdict and gives it with its time; the same token again changes nothing. The last one counts."""
        row = {name: getattr(verdict, name) for name in _GIVEN[VERDICTS.name]}
        at = self._add(VERDICTS, row)
        if at is None:
            raise InputError("a verdict on a reading that is not kept came; save the reading first")
        return replace(verdict, at=at)

    def readings(self) -> tuple[Reading, ...]:
        """All readings, in the order they were kept."""
        return tuple(Reading(**_fields(row)) for row in self._all(READINGS))

    def verdicts(self) -> tuple[Verdict, ...]:
        """All verdicts, in the order they were kept."""
        return tuple(Verdict(**_fields(row)) for row in self._all(VERDICTS))

    def reading_of(self, reader: str, case_id: str) -> Reading | None:
        """This reader's reading of this case, None where there is none."""
        found = self._all(READINGS, READINGS.c.reader == reader, READINGS.c.case_id == case_id)
        return Reading(**_fields(found[0])) if found else None

    def close(self) -> None:
        """Lets go of the database's connections."""
        self._engine.dispose()

    def _all(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        with self._told("reading the reviews"), self._engine.connect() as connection:
            return [
                dict(row) for row in connection.execute(sa.select(table).where(*where).order_by("number")).mappings()
            ]

    def _add(self, table: sa.Table, row: dict[str, Any]) -> datetime | None:
        """When it was kept; None where the database's rules refuse it."""
        at = datetime.now(UTC)
        try:
            with self._writing("saving the review") as connection:
                connection.execute(sa.insert(table).values(at=at, **row))
        except IntegrityError:
            kept = self._all(table, table.c.token == row["token"])
            same = bool(kept) and all(kept[0][name] == value for name, value in row.items())
            return kept[0]["at"] if same else None
        return at

    @contextmanager
    def _writing(self, doing: str) -> Iterator[Connection]:
        with self._told(doing), self._engine.connect() as connection:
            connection.execution_options(cmssd_writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as fault:
            # The database's own words may hold what was written; its kind is enough to mend it.
            why = str(getattr(fault, "orig", None) or fault).strip().splitlines()[0][:200]
            raise InputError(
                f"{doing} failed in {self.where} ({why}); nothing was saved now; mend the database, then try again"
            ) from fault


def open_at(place: str) -> Reviews:
    """The reviews in a SQLite file (a path) or behind a postgresql:// address; made where there are none."""
    if "://" not in place:
        return Reviews(_sqlite(Path(place).expanduser()), place)
    try:
        url = make_url(place)
        if url.get_backend_name() not in ("postgresql", "postgres"):
            raise InputError(
                f"CMSSD_REVIEWS with {url.get_backend_name()}:// came, expected a path or "
                "a postgresql:// address; mend it"
            )
        engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError):
        raise InputError("CMSSD_REVIEWS is no address of a database; give a path or a postgresql:// address") from None
    except ModuleNotFoundError:
        raise InputError(
            "CMSSD_REVIEWS names PostgreSQL, but psycopg is not installed; install the extra cmssd[postgresql]"
        ) from None
    return Reviews(engine, url.render_as_string(hide_password=True))


def _sqlite(path: Path) -> Engine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # For this user's eyes only; the files SQLite puts beside it take the same rights.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as fault:
        raise InputError(
            f"the reviews cannot be kept in {path} ({fault.strerror}); set CMSSD_REVIEWS to a path that can be written"
        ) from fault
    engine = sa.create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def connected(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # the transaction begins below, as this program says
        _write_ahead(raw)
        for pragma in ("synchronous=FULL", "fullfsync=ON", "foreign_keys=ON", "recursive_triggers=ON"):
            raw.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # A write that takes its lock at once waits for the other writer; one that takes it later is refused instead.
        writes = connection.get_execution_options().get("cmssd_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _write_ahead(raw: sqlite3.Connection) -> None:
    """Turn a new file to write-ahead logging; SQLite itself does not wait there for another who does the same."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "number"}
