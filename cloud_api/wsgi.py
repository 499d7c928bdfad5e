"""The application for a WSGI server of one's own choice: `cloud_api.wsgi:app`, configured by the environment.

DATABASE_URL, CARREL_CONFIG and CARREL_CLOUD_* are read. Connections are opened with the first request, so a server may
load this before or after it forks. Migrations are run beforehand, by
`carrel-migrate --db cloud upgrade`; until then /readyz says so.
"""

from __future__ import annotations

import os

from cloud_api.app import create_app, keep_withdrawals
from cloud_api.config import database_url, load_config, withdrawals_path
from cloud_api.database import CloudDatabase

config = load_config(None, os.environ)
database = CloudDatabase.configured(database_url(os.environ), config.database)
app = create_app(config, database)
keep_withdrawals(app, database, withdrawals_path(config))
