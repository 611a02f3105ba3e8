"""Consumer: mails to users, each decided on once."""
