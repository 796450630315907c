"""Judging: is a result right? What is exact, how far off a result may be, and the verdict."""
