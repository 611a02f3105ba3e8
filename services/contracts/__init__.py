"""Event contracts: the only words services share. One module per topic."""
