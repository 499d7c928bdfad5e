"""Who may use the cloud API: passwords, sign-in and its throttle, sessions of teachers and administrators, cookies (docs/security.md)."""
