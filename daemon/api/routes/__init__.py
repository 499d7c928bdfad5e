"""The routes of the localhost API: a module per noun, each with a table of its endpoints."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.api.endpoints import Endpoint
from daemon.api.routes import apps, attempts, content, enrolment, health, mastery, me, metrics, pages, plan, sessions, sync

# The blueprints, by name.
NOUNS: Mapping[str, tuple[Endpoint, ...]] = {
    "health": health.ENDPOINTS,
    "sessions": sessions.ENDPOINTS,
    "apps": apps.ENDPOINTS,
    "me": me.ENDPOINTS,
    "content": content.ENDPOINTS,
    "attempts": attempts.ENDPOINTS,
    "mastery": mastery.ENDPOINTS,
    "plan": plan.ENDPOINTS,
    "sync": sync.ENDPOINTS,
    "enrolment": enrolment.ENDPOINTS,
    "metrics": metrics.ENDPOINTS,
    "pages": pages.ENDPOINTS,
}
