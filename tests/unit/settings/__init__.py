"""Tests of the settings: table, sources, file, reference."""
