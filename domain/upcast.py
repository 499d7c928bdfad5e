"""Upcasters: operations written under an older schema become ones of the present schema (docs/protocol.md, "Versions and clocks").

A queued operation is never rewritten on its device: it keeps the payload that its chain covers, and the schema version under which it was written. The
server brings it up step by step, schema n to n + 1, after the chain is computed and before anything is judged. Steps are pure functions on
columns and are kept as long as devices may hold operations of their schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from domain.registry import SCHEMA_VERSION

# Payload fields as columns: name -> one value an operation.
Fields = Mapping[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Upcast:
    """One step: payloads of `table` and `kind` written under schema `schema` become those of `schema + 1`.

    `change` gets the fields that are there (an update may hold any of them, or none that it knows) and gives new ones of equal length.
    """

    schema: int
    table: str
    kind: str
    change: Callable[[Fields], Fields]


# In the order of their schema. Empty while there is one schema version.
UPCASTS: tuple[Upcast, ...] = ()


def upcast(table: str, kind: str, schema: int, fields: Fields) -> Fields:
    """The fields under the present schema. Payloads of the present schema, or of a newer one, come back as they are."""
    if schema >= SCHEMA_VERSION:
        return fields
    for step in UPCASTS:
        if step.table == table and step.kind == kind and schema <= step.schema < SCHEMA_VERSION:
            fields = step.change(fields)
    return fields
