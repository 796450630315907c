"""What a case is: calls with values, layouts and kinks, programs, how they are written down. Knows no Hypothesis."""
