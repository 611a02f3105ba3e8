"""The library's own migrations, and the Alembic environment every service shares."""
