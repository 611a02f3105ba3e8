"""What the mailer reads from its environment: `MAILER_SMTP_HOST`, and so on."""

from typing import Literal

from pydantic import EmailStr, Field, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from eventing.settings import ServiceSettings


class MailerSettings(ServiceSettings):
    """The mail server, and what to do when nobody knows whether it took a mail."""

    model_config = SettingsConfigDict(env_prefix="MAILER_")

    smtp_host: str = "localhost"
    smtp_port: int = Field(25, ge=1, le=65535)
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    smtp_username: str = ""
    smtp_password: str = Field("", repr=False)
    smtp_timeout: PositiveFloat = Field(10.0, description="Seconds for one conversation with the server.")
    smtp_connections: PositiveInt = Field(4, description="Connections kept at most.")
    sender: EmailStr = "welcome@example.com"
    when_ambiguous: Literal["resend", "hold"] = Field(
        "resend", description="A mail that may have been sent: send it again, or hold it for a person."
    )

    @property
    def claim(self) -> float:
        """Seconds after which another's attempt to send is certainly over."""
        return self.smtp_timeout * 1.5
