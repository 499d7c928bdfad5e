"""`python migrate.py …` is `carrel-migrate …`."""

from migrations.__main__ import main

if __name__ == "__main__":
    main()
