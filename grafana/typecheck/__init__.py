"""Checks the dashboards against Grafana's own TypeScript types; a development tool."""
