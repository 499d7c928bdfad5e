"""Who may use the localhost API: registered apps, students, and pages of neither."""
