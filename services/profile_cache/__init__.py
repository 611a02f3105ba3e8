"""Consumer: outdates cached profiles by version."""
