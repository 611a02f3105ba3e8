"""Settings: typed, read once, refused as a whole when a key is wrong."""

import pytest

from eventing.errors import Misconfigured
from eventing.settings import Settings
from mailer.settings import MailerSettings


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith(("EVENTING_", "MAILER_"))]:
        monkeypatch.delenv(name)


def test_the_defaults_are_those_of_a_laptop():
    assert Settings.read().kafka_bootstrap == "localhost:9092"


def test_a_variable_sets_its_value(monkeypatch):
    monkeypatch.setenv("EVENTING_CONSUMER_ATTEMPTS", "7")
    assert Settings.read().consumer_attempts == 7


def test_an_unknown_variable_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("EVENTING_CONSUMER_ATEMPTS", "7")
    with pytest.raises(Misconfigured, match="EVENTING_CONSUMER_ATEMPTS"):
        Settings.read()


def test_a_wrong_value_is_refused_by_the_name_of_its_variable(monkeypatch):
    monkeypatch.setenv("EVENTING_CONSUMER_ATTEMPTS", "many")
    with pytest.raises(Misconfigured, match=r"EVENTING_CONSUMER_ATTEMPTS: .*integer"):
        Settings.read()


def test_a_secret_comes_as_a_mounted_file(monkeypatch, tmp_path):
    (tmp_path / "eventing_database_url").write_text("postgresql://elsewhere/db")
    monkeypatch.setenv("EVENTING_SECRETS_DIR", str(tmp_path))
    assert Settings.read().database_url == "postgresql://elsewhere/db"


def test_a_secrets_directory_that_is_not_mounted_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("EVENTING_SECRETS_DIR", str(tmp_path / "missing"))
    with pytest.raises(Misconfigured, match="not a directory"):
        Settings.read()


def test_a_service_checks_its_own_prefix(monkeypatch):
    monkeypatch.setenv("MAILER_SMTP_HOSTT", "mail")
    with pytest.raises(Misconfigured, match="MAILER_SMTP_HOSTT"):
        MailerSettings.read()


def test_a_password_is_not_shown():
    assert "secret" not in repr(MailerSettings(smtp_password="secret"))


def test_a_database_url_is_not_shown():
    assert "hunter2" not in repr(Settings(database_url="postgresql://u:hunter2@h/db"))
