"""Requests and answers of the localhost API. Ids are dashed in answers, both forms are accepted; times are UTC ms; dates are ISO dates."""
