"""Sequences of changes of the models, each drafted and applied: the migrated database is the one that the models make, and keeps its rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import peewee as pw
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from playhouse.schema_diff import diff_models

from cloud_api.embedded import DatabaseServer
from migrations.creation import create_auto
from migrations.files import Kind
from migrations.schema.description import differences
from migrations.scratch import device_scratch, schema_of_models
from tests.migration.conftest import Folder, Target
from tests.migration.drafts import Col, Idx, Tab, models
from tests.support.postgres import temporary_database

State = dict[str, Tab]
Step = tuple[str, State]

# Without shrinking, which would take minutes: a sequence is short enough to read.
PHASES = (Phase.explicit, Phase.generate)

NAMES = ("answers", "books", "classes")
COLUMNS = ("alpha", "beta", "order", "Gamma")  # a keyword and a capital must be quoted
PARTIAL = ("id > 3", "id IS NOT NULL", "id IN (1, 2, 3)")

kinds = st.sampled_from(("text", "integer", "real"))


def add_table(draw: st.DrawFn, state: State) -> Step | None:
    free = [name for name in NAMES if name not in state]
    if not free:
        return None
    columns = draw(st.dictionaries(st.sampled_from(COLUMNS), st.builds(Col, kinds, st.booleans()), max_size=3))
    return "add table", {**state, free[0]: Tab(columns)}


def add_column(draw: st.DrawFn, state: State) -> Step | None:
    places = [(name, column) for name, table in state.items() for column in COLUMNS if column not in table.columns]
    if not places:
        return None
    name, column = draw(st.sampled_from(places))
    columns = {**state[name].columns, column: draw(st.builds(Col, kinds, st.booleans()))}
    return "add column", {**state, name: replace(state[name], columns=columns)}


def add_index(draw: st.DrawFn, state: State) -> Step | None:
    places = [(name, f"idx_{name}_{no}") for name, table in state.items() for no in range(3) if f"idx_{name}_{no}" not in table.indexes]
    if not places:
        return None
    name, index = draw(st.sampled_from(places))
    columns = draw(st.lists(st.sampled_from(("id", *state[name].columns)), min_size=1, max_size=2, unique=True))
    idx = Idx(tuple(columns), draw(st.booleans()), draw(st.sampled_from(("", *PARTIAL))))
    return "add index", {**state, name: replace(state[name], indexes={**state[name].indexes, index: idx})}


def drop_index(draw: st.DrawFn, state: State) -> Step | None:
    places = [(name, index) for name, table in state.items() for index in table.indexes]
    if not places:
        return None
    name, index = draw(st.sampled_from(places))
    return "drop index", {**state, name: replace(state[name], indexes={n: i for n, i in state[name].indexes.items() if n != index})}


def drop_column(draw: st.DrawFn, state: State) -> Step | None:
    """With the indexes that are on it."""
    places = [(name, column) for name, table in state.items() for column in table.columns]
    if not places:
        return None
    name, column = draw(st.sampled_from(places))
    columns = {n: c for n, c in state[name].columns.items() if n != column}
    indexes = {n: i for n, i in state[name].indexes.items() if column not in i.columns}
    return "drop column", {**state, name: Tab(columns, indexes)}


CHANGES: tuple[Callable[[st.DrawFn, State], Step | None], ...] = (add_table, add_column, add_index, drop_index, drop_column)


@st.composite
def sequences(draw: st.DrawFn, steps_max: int) -> list[Step]:
    """Steps, each with the models that it leads to; the first makes a table."""
    state: State = {}
    steps: list[Step] = []
    for number in range(draw(st.integers(2, steps_max))):
        step = (draw(st.sampled_from(CHANGES)) if number else add_table)(draw, state)
        if step is not None:
            steps.append(step)
            state = step[1]
    return steps


def run(target: Target, steps: list[Step]) -> None:
    before: State = {}
    for number, (words, state) in enumerate(steps, 1):
        created = create_auto(target.kind, target.folder.path, words, models(target.kind, state), target.scratch)
        assert created.path is not None
        assert created.path.name.startswith(f"{number:04}_")
        assert target.upgrade() == [created.path.stem]
        for name in state.keys() - before.keys():
            target.sql(f"INSERT INTO {name} (id) VALUES (3)")
        assert [target.sql(f"SELECT id FROM {name}") for name in state] == [[(3,)]] * len(state)
        before = state
    made = schema_of_models(target.kind, models(target.kind, before), target.scratch)
    assert [str(difference) for difference in differences(made, target.schema())] == []
    assert not second_opinion(target, before)
    target.downgrade(f"-{len(steps)}")
    assert target.tables() == set()


def second_opinion(target: Target, state: State) -> Any:
    """What peewee's own comparison finds, false for nothing; it knows tables, columns and indexes."""
    database = pw.SqliteDatabase(target.url.removeprefix("sqlite:///")) if target.kind == "device" else pw.PostgresqlDatabase(target.url)
    try:
        wanted = list(models(target.kind, state).models)
        with database.bind_ctx(wanted):
            return diff_models(database, wanted)
    finally:
        database.close()


@contextmanager
def a_target(kind: Kind, url: AbstractContextManager[str]) -> Iterator[Target]:
    with url as address, tempfile.TemporaryDirectory() as folder:
        yield Target(kind, address, Folder(Path(folder)))


@settings(max_examples=15, derandomize=True, phases=PHASES)
@given(sequences(6))
def test_on_a_device_every_sequence_of_changes_leads_to_what_the_models_make(steps: list[Step]) -> None:
    with a_target("device", device_scratch()) as target:
        run(target, steps)


@settings(max_examples=5, derandomize=True, phases=PHASES)
@given(sequences(5))
def test_on_a_server_every_sequence_of_changes_leads_to_what_the_models_make(postgres: DatabaseServer, steps: list[Step]) -> None:
    with a_target("cloud", temporary_database(postgres)) as target:
        run(target, steps)
