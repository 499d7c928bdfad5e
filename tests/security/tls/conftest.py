"""A migrated database for a server."""

from tests.support.cloud import cloud_database, cloud_template

__all__ = ["cloud_database", "cloud_template"]
