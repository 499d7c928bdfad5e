"""What went, and has to stay away."""

from __future__ import annotations

from peewee import SQL, BigIntegerField, BooleanField, CompositeKey, Model, UUIDField

from cloud_api.models.base import add_index, references


class Erasure(Model):
    school_id = UUIDField()
    student_id = UUIDField()
    erased_at_ms = BigIntegerField()
    feed_no = BigIntegerField()
    # Whether the tables were written anew since (cloud_api/erasure/rewriting.py).
    written = BooleanField(constraints=[SQL("DEFAULT false")])

    class Meta:
        table_name = "erasures"
        constraints = (references("schools", "school_id"),)
        primary_key = CompositeKey("school_id", "student_id")


add_index(Erasure, "idx_erasures_feed", Erasure.school_id, Erasure.feed_no)


class ErasedRow(Model):
    school_id = UUIDField()
    row_id = UUIDField()
    student_id = UUIDField()

    class Meta:
        table_name = "erased_rows"
        constraints = (SQL("FOREIGN KEY (school_id, student_id) REFERENCES erasures (school_id, student_id)"),)
        primary_key = CompositeKey("school_id", "row_id")


class ErasureConfirmation(Model):
    school_id = UUIDField()
    device_id = UUIDField()
    feed_no = BigIntegerField()
    confirmed_at_ms = BigIntegerField()

    class Meta:
        table_name = "erasure_confirmations"
        constraints = (references("devices", "device_id"),)
        primary_key = CompositeKey("school_id", "device_id")


class AnswersLetGo(Model):
    school_id = UUIDField(primary_key=True, constraints=[SQL("REFERENCES schools (id)")])
    through_no = BigIntegerField()
    wanted_no = BigIntegerField()
    before_ms = BigIntegerField()
    feed_no = BigIntegerField()
    written = BooleanField(constraints=[SQL("DEFAULT false")])

    class Meta:
        table_name = "answers_let_go"
