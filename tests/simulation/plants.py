"""The planted bugs, each with what finds it: the world of a seed, or a test by its name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.simulation import plants_bundles, plants_concurrency, plants_device, plants_server
from tests.simulation.checks import Violated
from tests.simulation.ground import PREFIX, Ground
from tests.simulation.plan import plan_of
from tests.simulation.world import World
from tests.support.memory import memory_folder

# Worlds in which a bug is looked for when the seed that was noted does not find it any more, because the worlds have changed.
SEARCHED_MAX = 200
_universes = itertools.count()


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug that the world of a `seed` finds as a breach of one of the invariants `names`; if it `needs_restore`, only worlds whose server is restored
    can find it.
    """

    plant: Callable[[pytest.MonkeyPatch], None]
    names: str
    seed: int
    needs_restore: bool = False

    @property
    def name(self) -> str:
        return self.plant.__name__

    @property
    def words(self) -> str:
        """What is wrong."""
        return (self.plant.__doc__ or "").strip().partition("\n")[0]

    def find(self, ground: Ground, searched_max: int = SEARCHED_MAX) -> tuple[int, Violated] | None:
        """The first seed, beginning with the noted one, whose world finds the bug, which is planted already; and how."""
        for seed in self._seeds(searched_max):
            with memory_folder(PREFIX) as folder:
                try:
                    World(seed, ground, folder, f"{self.name} {next(_universes)}").run()
                except Violated as violated:
                    if violated.name in self.names.split():
                        return seed, violated
        return None

    def _seeds(self, searched_max: int) -> Iterator[int]:
        yield self.seed
        others = (seed for seed in itertools.count(1) if not self.needs_restore or plan_of(seed).restorable)
        yield from itertools.islice(others, searched_max)


@dataclass(frozen=True, slots=True)
class NamedPlant:
    """A bug that no seed can find, because one thread never meets another, or only one in a thousand does: the test that finds it."""

    plant: Callable[[pytest.MonkeyPatch], None]
    test: str

    @property
    def name(self) -> str:
        return self.plant.__name__

    @property
    def words(self) -> str:
        """What is wrong."""
        return (self.plant.__doc__ or "").strip().partition("\n")[0]


_device, _server, _bundles = plants_device, plants_server, plants_bundles
PLANTS: tuple[Plant, ...] = (
    Plant(_device.forgotten_operation, "NO_LOST_OP TRUTHFUL_STATUS", 2),
    Plant(_device.row_and_operation_apart, "NO_LOST_OP TRUTHFUL_STATUS", 2),
    Plant(_device.settled_before_the_answer, "NO_LOST_OP TRUTHFUL_STATUS", 2),
    Plant(_device.verdicts_not_read, "CONVERGENCE", 25),
    Plant(_device.numbers_of_own_rows_not_read, "NO_GAP", 1),
    Plant(_device.busy_server_taken_for_poison, "NO_LOST_OP", 39),
    Plant(_device.first_operation_left_behind, "NO_WEDGE NO_LOST_OP TRUTHFUL_STATUS", 6),
    Plant(_device.restored_server_not_refilled, "NO_LOST_OP TRUTHFUL_STATUS LOSER_KEPT", 119, needs_restore=True),
    Plant(_device.new_epoch_overlooked, "NO_GAP CONVERGENCE NO_LOST_OP TRUTHFUL_STATUS LOSER_KEPT", 1189, needs_restore=True),
    Plant(_device.pruned_too_early, "NO_LOST_OP", 119, needs_restore=True),
    Plant(_device.rebaselining_never_ends, "CONVERGENCE NO_RESURRECTION", 87, needs_restore=True),
    Plant(_device.cursor_before_its_page, "NO_GAP", 4),
    Plant(_device.scope_back_in_the_same_life, "NO_GAP", 89),
    Plant(_device.lost_scope_kept, "NO_LEAK", 10),
    Plant(_device.tombstones_not_applied, "NO_RESURRECTION", 1),
    Plant(_device.shadow_forgotten, "READ_YOUR_WRITES", 21),
    Plant(_device.shadow_not_given_back, "CONVERGENCE", 96),
    Plant(_device.mastery_not_stale, "DERIVED_EQUAL", 1),
    Plant(_device.queue_not_counted, "TRUTHFUL_STATUS", 1),
    Plant(_server.acknowledged_before_the_commit, "NO_LOST_OP TRUTHFUL_STATUS", 4),
    Plant(_server.chain_not_checked, "NO_LOST_OP NO_GAP TRUTHFUL_STATUS", 56),
    Plant(_server.known_by_number_alone, "NO_LOST_OP TRUTHFUL_STATUS CONVERGENCE", 9),
    Plant(_server.place_not_moved, "NO_WEDGE NO_GAP", 14),
    Plant(_server.rejection_not_repeated, "CONVERGENCE TRUTHFUL_STATUS", 96),
    Plant(_server.dead_letters_dropped, "NO_LOST_OP TRUTHFUL_STATUS", 24),
    Plant(_server.unknown_fields_dropped, "NO_LOST_OP", 5),
    Plant(_server.losers_dropped, "LOSER_KEPT", 6),
    Plant(_server.merged_row_keeps_its_number, "CONVERGENCE", 6),
    Plant(_server.numbers_taken_twice, "NO_GAP CONVERGENCE", 1),
    Plant(_server.tombstones_not_written, "CONVERGENCE", 1),
    Plant(_server.tombstones_not_given, "NO_RESURRECTION", 1),
    Plant(_server.own_rows_always_left_out, "NO_GAP", 9),
    Plant(_server.cursor_beyond_the_page, "NO_GAP", 2),
    Plant(_server.grants_not_asked, "NO_LEAK", 1),
    Plant(_server.grants_not_in_the_etag, "NO_LEAK", 10),
    Plant(_bundles.feed_over_a_gap, "NO_GAP", 9),
    Plant(_bundles.older_feed_applied, "NO_RESURRECTION CONVERGENCE", 15),
    Plant(_bundles.exported_taken_for_settled, "NO_LOST_OP TRUTHFUL_STATUS", 9),
)
_CONCURRENCY = "tests/integration/sync/test_concurrency.py"
_PARTED = "tests/integration/sync/bundles/test_parted_logs.py"
_FEED = "tests/integration/sync/bundles/test_feed.py"
_POISON = "tests/integration/sync/test_poison_and_grants.py"
NAMED_PLANTS: tuple[NamedPlant, ...] = (
    NamedPlant(
        plants_concurrency.numbers_from_a_sequence, f"{_CONCURRENCY}::test_NO_GAP_no_readers_cursor_passes_over_a_row_under_sixteen_writers"
    ),
    NamedPlant(
        plants_concurrency.counter_let_go_too_early,
        f"{_CONCURRENCY}::test_NO_GAP_no_readers_cursor_passes_over_a_row_under_sixteen_writers",
    ),
    NamedPlant(
        plants_concurrency.device_not_locked, f"{_CONCURRENCY}::test_EXACTLY_ONCE_when_one_push_arrives_several_times_at_the_same_moment"
    ),
    NamedPlant(
        _bundles.answer_of_another_life_believed, f"{_PARTED}::test_an_answer_of_before_a_new_incarnation_is_refused_and_changes_nothing"
    ),
    NamedPlant(
        _bundles.carried_push_of_a_parted_log_dropped,
        f"{_PARTED}::test_NO_LOST_OP_a_device_restored_from_an_older_copy_sends_by_stick_what_it_wrote_since",
    ),
    NamedPlant(_bundles.own_rows_left_out_of_a_bundle, f"{_FEED}::test_own_rows_are_not_left_out_of_a_feed"),
    NamedPlant(
        _bundles.poll_trusted_after_a_bundle,
        f"{_FEED}::test_NO_LEAK_a_feed_of_before_a_grant_was_changed_counts_only_until_the_next_sync",
    ),
    NamedPlant(_server.neighbours_of_poison_refused, f"{_POISON}::test_what_only_the_database_refuses_is_found_by_bisection"),
)
