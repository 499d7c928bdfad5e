"""What importing a course would change in a school: references resolved and judged, then every row compared with the stored one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cloud_api.course_files import Course, CourseConcept, CourseQuestion
from cloud_api.csv_table import Problems
from cloud_api.edit import Edit
from cloud_api.publication import Row

# Ids of a course's rows by external id: what is in the files, and what the school has besides.
Ids = dict[str, str]


class CoursePlan:
    """Puts a course's rows into an edit. `retire` also retires what vanished: rows with an external id that the files should name.

    A topic belongs to the course when its top is one of the files' top topics; a concept or question when all its topics do. Rows made by hand
    and rows of other courses are left alone, and so is every table whose file does not exist.
    """

    def __init__(self, edit: Edit, course: Course, problems: Problems, retire: bool) -> None:
        self._edit = edit
        self._course = course
        self._problems = problems
        self._retire = retire
        self._stored_topics = edit.by_external_id("topics")
        self._stored_concepts = edit.by_external_id("concepts")
        self._course_topics = self._topics_of_course()
        self._topic_ids = self._known("topics", self._stored_topics, course.topics)
        self._concept_ids = self._known("concepts", self._stored_concepts, course.concepts or {})
