"""Expand only: the previous release must run on the new tables."""
