"""Producer: users over HTTP; row and event in one transaction."""
