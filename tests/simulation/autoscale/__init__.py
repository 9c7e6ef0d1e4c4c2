"""Autoscaling against fixed sizes, on made-up loads and a made-up clock.

    python -m tests.simulation.autoscale                      # print the table
    python -m tests.simulation.autoscale --write README.md    # put it into the document

The policy is the server's own; the fleet is a queue with so many threads. Every number follows
from a seed, so the table is the same on every machine.
"""
