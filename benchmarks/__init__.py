"""The budgets of docs/benchmarks.md, measured: `python -m benchmarks`, or `make bench`.

Every figure that depends on the machine is a ratio to a floor, the least that the same work can cost, measured in turn with it in the same run.
"""
