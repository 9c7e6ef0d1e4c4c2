"""A page by Flask: a route, a view and a Jinja template with a table of ten rows."""

from __future__ import annotations

from flask import Flask, render_template
from jinja2 import DictLoader

ROWS = [{"id": number, "name": f"article {number}", "price": number * 1.5} for number in range(10)]
PAGE = """<!doctype html>
<title>{{ title }}</title>
<h1>{{ title }}</h1>
<table>
{% for row in rows %}<tr><td>{{ row.id }}</td><td>{{ row.name }}</td><td>{{ row.price }}</td></tr>
{% endfor %}</table>
"""

app = Flask(__name__)
app.jinja_loader = DictLoader({"page.html": PAGE})


@app.get("/")
def page() -> str:
    """The page."""
    return render_template("page.html", title="Articles", rows=ROWS)
