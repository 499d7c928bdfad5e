"""The teachers' pages: where a class stands, who needs help, its questions, its time, and one student."""
