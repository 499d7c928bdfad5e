"""The router of a preview, which tells declared statements from Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from domain.errors import CarrelError, SchemaError
from migrations.engines import first_line
from migrations.preview.sqlite import RecordingSqlite
from migrations.router import SafeRouter


class PreviewRouter(SafeRouter):
    """Declared statements are marked, so that PostgreSQL never runs one; Python is announced in the script."""

    @property
    def done(self) -> list[str]:
        """The files to replay: PostgreSQL's history does not hold those of this script."""
        database: Any = self.database
        return list(database.script.applied)

    def _declare(self, name: str, body: Callable[..., None], migrator: Any, *, fake: bool) -> None:
        super()._declare(name, body, migrator, fake=fake)
        if not fake:
            migrator.__ops__ = [self._marked(name, operation) for operation in migrator.__ops__]

    def _marked(self, name: str, operation: Any) -> Callable[[], None]:
        declared = getattr(getattr(operation, "fn", None), "__name__", "") == "sql"
        run: Callable[[], Any] = operation.run if hasattr(operation, "run") else operation
        database: Any = self.database
        python = getattr(operation, "__name__", "") == "<lambda>"  # which is what migrator.run makes of a function

        def step() -> None:
            if python:
                database.script.comment("Python of this file runs here; these are its statements:")
            database.declared = declared
            try:
                run()
            except CarrelError:
                raise
            except Exception as error:
                if declared or isinstance(database, RecordingSqlite):
                    raise
                raise SchemaError(
                    f"{name} reads what an earlier pending statement makes, so its SQL cannot be told from here"
                    f" ({first_line(error)}): apply the migrations before it first"
                ) from error
            finally:
                database.declared = False

        return step
