"""Searches on a cluster: submitted, watched, stopped and fetched."""
