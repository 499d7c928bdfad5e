"""Fixtures of one side with its real database."""

from tests.support.cloud import cloud_app, cloud_database, cloud_template, database, flask_cloud, live_cloud, school

__all__ = ["cloud_app", "cloud_database", "cloud_template", "database", "flask_cloud", "live_cloud", "school"]
