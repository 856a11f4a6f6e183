"""Run by Alembic: within the connection that `service.database.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from service.database import TABLES

context.configure(connection=context.config.attributes["connection"], target_metadata=TABLES)
context.run_migrations()
