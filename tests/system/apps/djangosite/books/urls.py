"""The site's addresses: the admin, the books, and the admin's static files."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from books import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", views.shelf, name="shelf"),
    path("feed", views.feed),
    path("upload", csrf_exempt(views.upload)),
    path("broken", views.broken),
    *staticfiles_urlpatterns(),
]
