"""The pages of the school's server, for teachers and administrators: HTML made here, over the ground of webpages/."""
