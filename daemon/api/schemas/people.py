"""Requests and answers about the student who has signed in."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from daemon.api.endpoints import Input
from daemon.api.limits import Day, limited
from daemon.api.schemas.paging import Output
from domain.learning.planner import MINUTES_A_DAY_MAX

DAYS_OFF_MAX = 400
Minutes = Annotated[int, Meta(ge=0, le=MINUTES_A_DAY_MAX)]
Week = Annotated[list[Minutes], Meta(min_length=7, max_length=7, description="Minutes of each weekday, Monday first.")]
DaysOff = Annotated[list[Day], Meta(max_length=DAYS_OFF_MAX, description="Days without study.")]


class ProfileChange(Input, frozen=True):
    """The fields to change; null clears one."""

    grade: Annotated[str | UnsetType | None, limited("student_profiles", "grade")] = UNSET
    exam_on: Annotated[str | UnsetType | None, limited("student_profiles", "exam_on")] = UNSET
    available_minutes: Week | UnsetType | None = UNSET
    days_off: DaysOff | UnsetType | None = UNSET


class Class(Output, frozen=True):
    id: str
    name: str


class Profile(Output, frozen=True):
    grade: str | None
    exam_on: str | None
    available_minutes: list[int] | None
    days_off: list[str] | None


class Me(Output, frozen=True):
    id: str
    username: str
    display_name: str
    classes: list[Class]
    profile: Profile
