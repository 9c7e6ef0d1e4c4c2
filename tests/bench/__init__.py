"""Measurements: run by hand, each prints what it found and how."""
