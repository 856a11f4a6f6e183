"""Rating: studies, their raters and ECGs, what each rater is shown, and what they said of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SAID = "what raters said is only appended to"
_SQLITE = (
    f"""
    CREATE TRIGGER answers_no_update BEFORE UPDATE ON answers
    BEGIN SELECT RAISE(ABORT, '{_SAID}'); END
    """,
    f"""
    CREATE TRIGGER answers_no_delete BEFORE DELETE ON answers
    BEGIN SELECT RAISE(ABORT, '{_SAID}'); END
    """,
    # INSERT OR REPLACE would delete without asking the trigger for that
    f"""
    CREATE TRIGGER answers_no_replace BEFORE INSERT ON answers
    WHEN EXISTS (SELECT 1 FROM answers WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, '{_SAID}'); END
    """,
)
_POSTGRESQL = (
    f"""
    CREATE FUNCTION answers_only_appended() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{_SAID}'; END $$
    """,
    """
    CREATE TRIGGER answers_no_change BEFORE UPDATE OR DELETE ON answers
    FOR EACH ROW EXECUTE FUNCTION answers_only_appended()
    """,
    """
    CREATE TRIGGER answers_no_truncate BEFORE TRUNCATE ON answers
    FOR EACH STATEMENT EXECUTE FUNCTION answers_only_appended()
    """,
)


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("fs", sa.Float, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "raters",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("study", sa.String(16), sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("study", "number", name="uq_raters_study_number"),
    )
    op.create_index("ix_raters_study", "raters", ["study"])
    op.create_table(
        "rated_ecgs",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("study", sa.String(16), sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("sig", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("study", "number", name="uq_rated_ecgs_study_number"),
    )
    op.create_index("ix_rated_ecgs_study", "rated_ecgs", ["study"])
    op.create_table(
        "presentations",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("rater", sa.String(16), sa.ForeignKey("raters.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("item", sa.String(16), sa.ForeignKey("rated_ecgs.id"), nullable=False),
        sa.Column("other", sa.String(16), sa.ForeignKey("rated_ecgs.id")),
        sa.Column("repeat_of", sa.String(32), sa.ForeignKey("presentations.id")),
        sa.UniqueConstraint("rater", "position", name="uq_presentations_rater_position"),
    )
    op.create_table(
        "answers",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("presentation", sa.String(32), sa.ForeignKey("presentations.id"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("based_on", sa.Integer, nullable=False),
        sa.Column("undone", sa.Boolean, nullable=False),
        sa.Column("given", sa.Text, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("presentation", "revision", name="uq_answers_presentation_revision"),
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    for statement in _POSTGRESQL if postgresql else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    for table in ("answers", "presentations", "rated_ecgs", "raters", "studies"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION answers_only_appended")
