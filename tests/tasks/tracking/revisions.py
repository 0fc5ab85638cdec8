"""Revisions of the tables of MLflow's database."""

from pathlib import Path

import mlflow
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect


def revision(url: str) -> str | None:
    """The tables' revision."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found: str | None = MigrationContext.configure(connection).get_current_revision()
    engine.dispose()
    return found


def take_back(url: str, to: str) -> int:
    """Takes the tables back to a revision, or by so many as `-2`; how many tables that removes."""
    config = Config()
    config.set_main_option("script_location", str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    engine = create_engine(url)
    before = inspect(engine).get_table_names()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, to)
    left = inspect(engine).get_table_names()
    engine.dispose()
    return len(before) - len(left)
