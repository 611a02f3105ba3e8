"""Consumer and query API: an audit log of every event, and the statistics read from it."""
