"""Tests of the logs: lines, access log, request ids."""
