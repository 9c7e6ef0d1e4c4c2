"""A page by Django: URL routing, the common middleware and a template with ten rows, no database.

The settings are here, so that the application is one file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="benchmark",
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)

# Only now: these read the settings.
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.template import Context, Template  # noqa: E402
from django.urls import path  # noqa: E402

if TYPE_CHECKING:
    from django.http import HttpRequest

app = get_wsgi_application()

ROWS = [{"id": number, "name": f"article {number}", "price": number * 1.5} for number in range(10)]
PAGE = Template("""<!doctype html>
<title>{{ title }}</title>
<h1>{{ title }}</h1>
<table>
{% for row in rows %}<tr><td>{{ row.id }}</td><td>{{ row.name }}</td><td>{{ row.price }}</td></tr>
{% endfor %}</table>
""")


def page(_request: HttpRequest) -> HttpResponse:
    """The page."""
    return HttpResponse(PAGE.render(Context({"title": "Articles", "rows": ROWS})))


urlpatterns = [path("", page)]
