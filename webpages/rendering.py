"""Templates to HTML. Every value is escaped; a value that a template names and nobody gave is an error, not an empty place."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

from webpages import charts

_COMMON = Path(__file__).parent / "templates"


class Templates:
    """The templates in one folder, over the common ones: `base.html`, which pages extend, and `components.html`, which they import.

    Values of all of a folder's templates, such as functions that put times into words, are given once.
    """

    def __init__(self, folder: Path, **common: Any) -> None:
        self._folder, self._values = folder, common

    def render(self, name: str, **values: Any) -> bytes:
        """A template with these values, as UTF-8. Raises jinja2's own errors for a faulty template or a value that is missing."""
        return self._environment.get_template(name).render(values).encode()

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=ChoiceLoader([FileSystemLoader(self._folder), FileSystemLoader(_COMMON)]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.globals |= {"charts": charts, **self._values}
        return environment
