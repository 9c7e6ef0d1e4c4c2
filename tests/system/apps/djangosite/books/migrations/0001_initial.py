"""Make the table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """The first version."""

    initial = True

    operations = [
        migrations.CreateModel(
            name="Book",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("title", models.CharField(max_length=200)),
                ("read", models.BooleanField(default=False)),
            ],
        )
    ]
