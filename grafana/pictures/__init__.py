"""Draws the dashboards with Grafana's own components; a development tool."""
