"""Dashboards as code; a development tool of the checkout, in no wheel."""
