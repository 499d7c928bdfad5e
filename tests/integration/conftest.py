"""Fixtures of one side with its real database."""

from tests.support.cloud import cloud_app, cloud_database, cloud_school, cloud_template, flask_cloud, live_cloud, open_cloud_database

__all__ = ["cloud_app", "cloud_database", "cloud_school", "cloud_template", "flask_cloud", "live_cloud", "open_cloud_database"]
