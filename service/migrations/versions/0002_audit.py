"""The audit: rows in one chain, each with the hash of the one before it; only ever appended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# SQLite's own 64-bit key, rather than an index beside the rows
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# INSERT OR REPLACE would delete without asking the trigger for that
_SQLITE = (
    """
    CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is only appended to'); END
    """,
    """
    CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
    WHEN OLD.seq > (SELECT coalesce(max(seq), 0) FROM audit_sealed)
    BEGIN SELECT RAISE(ABORT, 'the audit is only appended to'); END
    """,
    """
    CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit
    WHEN NEW.seq <= (SELECT coalesce(max(seq), 0) FROM audit)
    BEGIN SELECT RAISE(ABORT, 'the audit is only appended to'); END
    """,
)
_POSTGRESQL = (
    """
    CREATE FUNCTION audit_only_appended() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            IF OLD.seq <= (SELECT coalesce(max(seq), 0) FROM audit_sealed) THEN
                RETURN OLD;
            END IF;
        END IF;
        RAISE EXCEPTION 'the audit is only appended to';
    END $$
    """,
    """
    CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_only_appended()
    """,
    """
    CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_only_appended()
    """,
)


def upgrade() -> None:
    op.create_table("audit_sealed", sa.Column("seq", _SEQ, primary_key=True, autoincrement=False))
    op.create_table(
        "audit",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("time", sa.String(32), nullable=False),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("caller", sa.String(300), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("about", sa.String(300)),
        sa.Column("input_sha256", sa.String(64)),
        sa.Column("model_sha256", sa.String(64)),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    for statement in _POSTGRESQL if postgresql else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("audit_sealed")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_only_appended")
