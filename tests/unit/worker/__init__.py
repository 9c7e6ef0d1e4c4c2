"""Tests of the worker's modules; `rig` puts them together without a process of their own."""
