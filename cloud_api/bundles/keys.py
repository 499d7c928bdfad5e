"""The server's keys for bundles: one pair of each kind for all of its schools, kept in the database.

Whoever has the database has everything that a bundle could say, so a file beside it would protect nothing; and a server that was restored from
a backup opens the bundles of before.
"""

from __future__ import annotations

from cloud_api.database import Cursor, one_row
from domain.sealing import SecretKeys, new_keys


def server_keys(cursor: Cursor) -> SecretKeys:
    """The keys, made when they are first asked for, in the caller's writing transaction."""
    cursor.execute("SELECT sign_key, seal_key FROM server_state")
    sign_key, seal_key = one_row(cursor)
    if sign_key is None or seal_key is None:
        fresh = new_keys()
        # Of two that make keys at the same moment, the second finds those of the first.
        cursor.execute(
            "UPDATE server_state SET sign_key = coalesce(sign_key, %s), seal_key = coalesce(seal_key, %s) RETURNING sign_key, seal_key",
            fresh,
        )
        sign_key, seal_key = one_row(cursor)
    return SecretKeys(bytes(sign_key), bytes(seal_key))
