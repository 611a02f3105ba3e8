"""The mailer's tables."""
