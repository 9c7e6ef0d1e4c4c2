"""The benchmark against other servers: `python -m tests.bench.peers`, or `make bench`.

It needs Python's standard library and wrk; the servers and the plots are in a virtual environment
that it makes by itself. What it does, in the order of the modules: `environment` installs, `servers`
knows the command lines, `workloads` says what is measured, `load` asks, `process` watches the
server, `running` brings these together into one measurement, `goals` judges, `report` and `plot`
show. `scaling` is a program of its own on the same parts.
"""
