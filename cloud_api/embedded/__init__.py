"""A PostgreSQL server of one's own, for `make run` and for tests: no installation, no account, no fixed port.

with EmbeddedPostgres.start(reachable_folder(Path(".state/postgres"))) as server:
    server.create_database("school")
    connect(server.url_for("school"))

binaries   finding PostgreSQL's programs
account    the account under which they run: never root
server     starting, sharing and stopping one server
databases  creating and dropping databases on any server
"""

from cloud_api.embedded.account import reachable_folder
from cloud_api.embedded.binaries import find_binaries
from cloud_api.embedded.databases import DatabaseServer
from cloud_api.embedded.server import EmbeddedPostgres

__all__ = ["DatabaseServer", "EmbeddedPostgres", "find_binaries", "reachable_folder"]
