"""`python migrate.py …` is `carrel-migrate …`."""

from migrations.cli import main

if __name__ == "__main__":
    main()
