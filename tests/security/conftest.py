"""Fixtures of the school's server."""

from tests.support.cloud import cloud_database, cloud_school, cloud_template, flask_cloud, open_cloud_database

__all__ = ["cloud_database", "cloud_school", "cloud_template", "flask_cloud", "open_cloud_database"]
