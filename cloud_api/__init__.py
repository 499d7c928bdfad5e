"""The school's server: PostgreSQL, push, pull and verify, enrolment, pages for teachers and school IT, `carrel-cloud`."""
