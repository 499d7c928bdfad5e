"""A schema from peewee models, which are named by module and attribute: this package may not import them.

A module of models holds `MODELS`, parents first, and may hold `AFTER_TABLES`: statements for what a model cannot say, run when all
tables are there (functions, triggers, rows that belong to the schema).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peewee as pw

from domain.errors import OperatorError
from migrations.files import Kind

AFTER_TABLES = "AFTER_TABLES"
# Where each side keeps its models.
MODELS: dict[Kind, str] = {"device": "daemon.models:MODELS", "cloud": "cloud_api.models:MODELS"}


@dataclass(frozen=True)
class ModelSet:
    """Models of one database, parents first, and the statements that complete them."""

    models: Sequence[type[pw.Model]]
    after_tables: Sequence[str] = ()

    def create(self, database: pw.Database) -> None:
        """Creates everything in an open, empty database; the caller has the transaction. The models stay bound as they were.

        Raises OperatorError when they do not fit the database.
        """
        execute: Any = database.execute_sql
        try:
            with database.bind_ctx(self.models, bind_refs=False, bind_backrefs=False):
                for model in self.models:
                    model._schema.create_all(safe=False)  # type: ignore[attr-defined]
            for statement in self.after_tables:
                execute(statement)
        except pw.PeeweeException as error:
            raise OperatorError(f"The models do not make a schema: {str(error).strip().splitlines()[0].rstrip('.')}.") from error
        except IndexError as error:  # psycopg2 takes a single percent sign for a parameter that is missing
            raise OperatorError("The models do not make a schema: in SQL for PostgreSQL a percent sign is written %%.") from error


def load_models(reference: str) -> ModelSet:
    """The models that `package.module:ATTRIBUTE` names. Raises OperatorError when they cannot be imported."""
    name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(name)
        models: Any = getattr(module, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise OperatorError(f"The models {reference} cannot be imported: {str(error).rstrip('.')}.") from error
    return ModelSet(tuple(models), tuple(getattr(module, AFTER_TABLES, ())))
