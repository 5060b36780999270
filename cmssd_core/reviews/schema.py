"""The tables of the reviews and the triggers that keep them append-only, for SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from cmssd_core.types import InputError

VERSION = 1
APPEND_ONLY = "reviews are append-only"


class Utc(TypeDecorator[datetime]):
    """A moment in UTC: a timestamp with time zone, or ISO 8601 text where the database has none (SQLite)."""

    impl = sa.String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column's type in this database."""
        return dialect.type_descriptor(sa.DateTime(timezone=True) if dialect.name == "postgresql" else sa.String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """What is sent."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """What is read."""
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return None if moment is None else moment.astimezone(UTC)


TABLES = sa.MetaData()
_PERCENT = "{0} IS NULL OR ({0} >= 0 AND {0} <= 100)"

READINGS = sa.Table(
    "cmssd_reading", TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("token", sa.String(64), nullable=False, unique=True),
    sa.Column("at", Utc, nullable=False),
    sa.Column("reader", sa.String(64), nullable=False),
    sa.Column("case_id", sa.String(200), nullable=False),
    sa.Column("model_id", sa.String(200), nullable=False),
    sa.Column("blind", sa.Boolean, nullable=False),
    sa.Column("severity_pct", sa.Double),
    sa.Column("marks", sa.JSON, nullable=False),
    sa.UniqueConstraint("reader", "case_id", name="cmssd_one_reading_a_reader_a_case"),
    sa.CheckConstraint(_PERCENT.format("severity_pct"), name="cmssd_reading_percent"),
)  # fmt: skip

VERDICTS = sa.Table(
    "cmssd_verdict", TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("token", sa.String(64), nullable=False, unique=True),
    sa.Column("at", Utc, nullable=False),
    sa.Column("reading", sa.String(64), sa.ForeignKey("cmssd_reading.token"), nullable=False),
    sa.Column("model_id", sa.String(200), nullable=False),
    sa.Column("model_severity_pct", sa.Double),
    sa.Column("model_p_malignant", sa.Double),
    sa.Column("answer", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("severity_pct", sa.Double),
    sa.CheckConstraint("answer IN ('agree', 'override')", name="cmssd_verdict_answer"),
    sa.CheckConstraint("answer = 'agree' OR reason <> ''", name="cmssd_override_has_a_reason"),
    sa.CheckConstraint(_PERCENT.format("severity_pct"), name="cmssd_verdict_percent"),
)  # fmt: skip

SCHEMA = sa.Table("cmssd_review_schema", TABLES, sa.Column("version", sa.Integer, primary_key=True))

#: What INSERT OR REPLACE of SQLite would overwrite without firing a trigger on deletion.
_OVERWRITES = {
    "cmssd_reading": "number = NEW.number OR token = NEW.token OR (reader = NEW.reader AND case_id = NEW.case_id)",
    "cmssd_verdict": "number = NEW.number OR token = NEW.token",
}


def create(connection: Connection) -> None:
    """Makes tables and triggers where there are none; to be called in a transaction that keeps others out.

    InputError where the database was made by another version of this program.
    """
    if sa.inspect(connection).has_table(SCHEMA.name):
        found = connection.execute(sa.select(SCHEMA.c.version)).scalars().all()
        if found != [VERSION]:
            raise InputError(
                f"the review database has version {found}, expected {VERSION}; use the program that made it, or "
                "another database"
            )
        return
    TABLES.create_all(connection)
    for statement in _guards(connection.dialect.name):
        connection.exec_driver_sql(statement)
    connection.execute(sa.insert(SCHEMA).values(version=VERSION))


def _guards(dialect: str) -> list[str]:
    if dialect == "postgresql":
        made = [
            "CREATE OR REPLACE FUNCTION cmssd_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{APPEND_ONLY}'; END $$"
        ]
        return made + [
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION cmssd_append_only()"
            for table in _OVERWRITES
        ]
    made = []
    for table, same in _OVERWRITES.items():
        stop = f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY}'); END"
        made += [
            f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} {stop}" for act in ("UPDATE", "DELETE")
        ]
        made.append(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) {stop}"
        )
    return made
