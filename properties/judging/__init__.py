"""Is a result right? What is exact, how far off it may be, and the verdict."""
