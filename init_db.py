"""`python init_db.py`: both databases straight from the models, for development."""

from migrations.commands.init import init_db

if __name__ == "__main__":
    init_db()
