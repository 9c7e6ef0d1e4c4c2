"""What `startproject` generated, and the one application added to it."""

from shop.settings import *  # noqa: F403
from shop.settings import BASE_DIR, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "books"]
ROOT_URLCONF = "books.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        # Several workers write to one file: wait for the other's transaction.
        "OPTIONS": {"timeout": 20},
    }
}
