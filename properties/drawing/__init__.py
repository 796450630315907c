"""Drawing with Hypothesis: strategies over what is in `cases`, and the private parts of Hypothesis in use."""
