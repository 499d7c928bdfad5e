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
        """Creates everything in an open, empty database; the caller has the transaction. The models stay bound as they were."""
        with database.bind_ctx(self.models, bind_refs=False, bind_backrefs=False):
            for model in self.models:
                model._schema.create_all(safe=False)  # type: ignore[attr-defined]
        execute: Any = database.execute_sql
        for statement in self.after_tables:
            execute(statement.replace("%", "%%") if isinstance(database, pw.PostgresqlDatabase) else statement)


def load_models(reference: str) -> ModelSet:
    """The models that `package.module:ATTRIBUTE` names. Raises OperatorError when they cannot be imported."""
    name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(name)
        models: Any = getattr(module, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise OperatorError(f"The models {reference} cannot be imported: {str(error).rstrip('.')}.") from error
    return ModelSet(tuple(models), tuple(getattr(module, AFTER_TABLES, ())))
