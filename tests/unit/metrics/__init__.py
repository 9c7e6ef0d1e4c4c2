"""Tests of the scoreboard, the catalogue, the collector and the exporter."""
