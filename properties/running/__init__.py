"""A run: what is tried and for how long, what is kept of a failure, and what is shown at the end."""
