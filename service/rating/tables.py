"""The rating's tables, and how they are written to.

What a rater says is only ever appended: an undone or corrected answer is a further revision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from service.database import TABLES

STUDIES = sa.Table(
    "studies",
    TABLES,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("fs", sa.Float, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    sa.Column("closed", sa.DateTime(timezone=True)),
)
RATERS = sa.Table(
    "raters",
    TABLES,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("study", sa.String(16), sa.ForeignKey("studies.id"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    sa.Column("revoked", sa.DateTime(timezone=True)),
    sa.UniqueConstraint("study", "number", name="uq_raters_study_number"),
)
ITEMS = sa.Table(
    "rated_ecgs",
    TABLES,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("study", sa.String(16), sa.ForeignKey("studies.id"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("source", sa.String(200), nullable=False),
    sa.Column("label", sa.String(200), nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("sig", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("study", "number", name="uq_rated_ecgs_study_number"),
)
PRESENTATIONS = sa.Table(
    "presentations",
    TABLES,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("rater", sa.String(16), sa.ForeignKey("raters.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("item", sa.String(16), sa.ForeignKey("rated_ecgs.id"), nullable=False),
    sa.Column("other", sa.String(16), sa.ForeignKey("rated_ecgs.id")),
    sa.Column("repeat_of", sa.String(32), sa.ForeignKey("presentations.id")),
    sa.UniqueConstraint("rater", "position", name="uq_presentations_rater_position"),
)
ANSWERS = sa.Table(
    "answers",
    TABLES,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("presentation", sa.String(32), sa.ForeignKey("presentations.id"), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("based_on", sa.Integer, nullable=False),
    sa.Column("undone", sa.Boolean, nullable=False),
    sa.Column("given", sa.Text, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("presentation", "revision", name="uq_answers_presentation_revision"),
)


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that is durable once this has returned. In SQLite it is the only one that
    writes; in PostgreSQL, who needs that locks a row."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def now() -> datetime:
    return datetime.now(UTC)


def utc(time: datetime | None) -> datetime | None:
    """SQLite keeps times without their zone."""
    return time and (time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))
