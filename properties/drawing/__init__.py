"""Hypothesis: strategies over what is in `cases`, and the parts of Hypothesis that are private."""
