"""People of a school."""

from __future__ import annotations

from peewee import SQL, BigIntegerField, JSONField, Model, TextField, UUIDField

from cloud_api.models.base import SyncedRow, add_external_index, add_index, references


class User(SyncedRow):
    role = TextField(constraints=[SQL("CHECK (role IN ('student', 'teacher', 'admin'))")])
    username = TextField()
    display_name = TextField()
    external_id = TextField(null=True)
    retired_at_ms = BigIntegerField(null=True)
    password_hash = TextField(null=True)

    class Meta:
        table_name = "users"
        constraints = (references("schools", "school_id"),)


add_index(User, "idx_users_username", User.school_id, SQL("lower(username)"), unique=True)
add_external_index(User, "idx_users_external")
add_index(User, "idx_users_feed", User.school_id, User.feed_no)


class Class(SyncedRow):
    name = TextField()
    external_id = TextField(null=True)
    retired_at_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "classes"
        constraints = (references("schools", "school_id"),)


add_external_index(Class, "idx_classes_external")
add_index(Class, "idx_classes_feed", Class.school_id, Class.feed_no)


class ClassMember(SyncedRow):
    class_id = UUIDField()
    user_id = UUIDField()
    role = TextField(constraints=[SQL("CHECK (role IN ('student', 'teacher'))")])

    class Meta:
        table_name = "class_members"
        constraints = (references("classes", "class_id"), references("users", "user_id"))


add_index(ClassMember, "idx_class_members_pair", ClassMember.school_id, ClassMember.class_id, ClassMember.user_id, unique=True)
add_index(ClassMember, "idx_class_members_user", ClassMember.school_id, ClassMember.user_id)
add_index(ClassMember, "idx_class_members_feed", ClassMember.school_id, ClassMember.class_id, ClassMember.feed_no)


class StudentProfile(SyncedRow):
    grade = TextField(null=True)
    exam_on = TextField(null=True)
    available_minutes = JSONField(null=True)
    days_off = JSONField(null=True)
    clocks = JSONField(constraints=[SQL("DEFAULT '{}'")])

    class Meta:
        table_name = "student_profiles"
        constraints = (references("users", "id"),)


add_index(StudentProfile, "idx_student_profiles_feed", StudentProfile.school_id, StudentProfile.feed_no)


class MembershipHistory(Model):
    school_id = UUIDField()
    class_id = UUIDField()
    user_id = UUIDField()
    ended_at_ms = BigIntegerField()

    class Meta:
        table_name = "membership_history"
        primary_key = False


add_index(MembershipHistory, "idx_membership_history", MembershipHistory.school_id, MembershipHistory.class_id, MembershipHistory.user_id)
