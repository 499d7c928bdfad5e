"""Imports of a course and of a roster: everything is read and judged first, then written in one transaction, or not at all.

Rows are found again by their external id, so that an import may be repeated: what is the same stays untouched and takes no feed number. What
has vanished from the files is retired only on demand, and only within what the files speak of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from cloud_api import audit
from cloud_api.course_files import read_course
from cloud_api.course_plan import plan_course
from cloud_api.csv_table import Problems
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.edit import Edit
from cloud_api.publication import Progress, lock_for_editing
from cloud_api.roster_file import read_roster
from cloud_api.roster_plan import plan_roster
from domain.clock import Clock
from domain.errors import Conflict
from domain.ids import IdSource
