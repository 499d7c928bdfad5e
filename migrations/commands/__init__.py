"""The commands of `carrel-migrate`. The runner, and with it peewee, is imported inside them: `--help` must answer at once.

groups     help in whole sentences
databases  which databases a command is for, and their addresses
report     doing something on each database in turn: its report as text or JSON, errors, exit codes
waiting    a line now and then while something takes long
move       upgrade, downgrade, stamp
show       current, history, check
write      create
init       `python init_db.py`
"""
