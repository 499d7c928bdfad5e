"""People of the school, as a device has them."""

from __future__ import annotations

import peewee as pw

from daemon.models.base import SyncedRow


class User(SyncedRow):
    """A student, teacher or administrator of the school."""

    role = pw.TextField()
    username = pw.TextField()
    display_name = pw.TextField()
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)

    class Meta:
        table_name = "users"


User.add_index(User.username, name="idx_users_username")


class Class(SyncedRow):
    """A class of the school."""

    name = pw.TextField()
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)

    class Meta:
        table_name = "classes"


class ClassMember(SyncedRow):
    """A user in a class, as student or teacher."""

    class_id = pw.TextField()
    user_id = pw.TextField()
    role = pw.TextField()

    class Meta:
        table_name = "class_members"


ClassMember.add_index(ClassMember.class_id, name="idx_class_members_class")
ClassMember.add_index(ClassMember.user_id, name="idx_class_members_user")


class StudentProfile(SyncedRow):
    """What planning needs to know of a student; the id is the student's. `available_minutes` is a JSON list, Monday first, `days_off` one of dates."""

    grade = pw.TextField(null=True)
    exam_on = pw.TextField(null=True)
    available_minutes = pw.TextField(null=True)
    days_off = pw.TextField(null=True)
    clocks = pw.TextField(default="{}", constraints=[pw.SQL("DEFAULT '{}'")])

    class Meta:
        table_name = "student_profiles"
