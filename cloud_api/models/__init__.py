"""The server's tables as peewee models: unbound, without logic, in the order of the first migration.

They describe the whole schema, to the last CHECK, for whoever drafts or checks a migration or makes a database without migrations; tests hold
them against the migrated database and the registry. The queries of this package are written in SQL, set by set. Keys lead with the school,
which peewee's foreign-key fields cannot express, so references are plain columns with constraints. Defaults are the database's.
"""

from __future__ import annotations

from pathlib import Path

from peewee import Model

from cloud_api.models.access import UserSession, WrongTries
from cloud_api.models.content import Concept, Question, Topic, TopicPrerequisite
from cloud_api.models.devices import Device, DeviceGrant, DeviceIncarnation, EnrolmentCode
from cloud_api.models.erasure import AnswersLetGo, ErasedRow, Erasure, ErasureConfirmation
from cloud_api.models.people import Class, ClassMember, MembershipHistory, StudentProfile, User
from cloud_api.models.schools import AuditLog, School, ServerState
from cloud_api.models.study import (
    ConceptMastery,
    DifficultySnapshot,
    MasteryFold,
    ModelWeights,
    PlanRule,
    QuestionAttempt,
    StudentFigures,
    StudyPlan,
    StudyPlanItem,
)
from cloud_api.models.sync import DeadLetter, FeedDay, SettledValue, SyncConflict, SyncHour, Tombstone

# Every model, parents first.
MODELS: tuple[type[Model], ...] = (
    ServerState,
    School,
    User,
    Class,
    ClassMember,
    StudentProfile,
    Topic,
    TopicPrerequisite,
    Concept,
    Question,
    DifficultySnapshot,
    ModelWeights,
    QuestionAttempt,
    ConceptMastery,
    MasteryFold,
    StudentFigures,
    StudyPlan,
    StudyPlanItem,
    PlanRule,
    Device,
    SyncHour,
    FeedDay,
    AnswersLetGo,
    DeviceIncarnation,
    DeviceGrant,
    MembershipHistory,
    EnrolmentCode,
    UserSession,
    WrongTries,
    Tombstone,
    DeadLetter,
    SyncConflict,
    SettledValue,
    Erasure,
    ErasedRow,
    AuditLog,
    ErasureConfirmation,
)

# What a model cannot say: run when all tables are there. Migrations say it with the same words.
AFTER_TABLES = (
    "INSERT INTO server_state DEFAULT VALUES",
    *(
        (Path(__file__).parent / name).read_text("utf-8").replace("%", "%%")
        for name in ("attempts.sql", "audit.sql", "wall.sql", "gates.sql")
    ),
)
