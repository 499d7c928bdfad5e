"""Peewee models of the device's tables, without logic. `DeviceDatabase.open(MODELS)` binds them.

They follow migrations/device; tests/integration/daemon/test_models.py holds the two against each other. There are no foreign-key fields: replicas
arrive scope by scope, so that a row may be here before the row it names (docs/decisions/0004). Columns with JSON text stay text here; whoever
reads them decodes them.
"""

from __future__ import annotations

import peewee as pw

from daemon.models.access import App, SignInTries, StudentPin, StudentSession
from daemon.models.content import Concept, Question, Topic, TopicPrerequisite
from daemon.models.people import Class, ClassMember, StudentProfile, User
from daemon.models.study import (
    ConceptMastery,
    DifficultySnapshot,
    MasteryStale,
    ModelWeights,
    PlanRule,
    QuestionAttempt,
    StudyPlan,
    StudyPlanItem,
)
from daemon.models.sync import Boot, Cursor, Identity, Shadow, SyncConflict, SyncOperation, SyncProgress

MODELS: tuple[type[pw.Model], ...] = (
    User, Class, ClassMember, Topic, TopicPrerequisite, Concept, Question, DifficultySnapshot, ModelWeights, StudentProfile, QuestionAttempt, ConceptMastery, MasteryStale,
    StudyPlan, StudyPlanItem, PlanRule, SyncConflict, Identity, SyncProgress, SyncOperation, Boot, Cursor, Shadow, App,
    StudentSession, StudentPin, SignInTries,
)  # fmt: skip
