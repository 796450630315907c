"""Cases, without Hypothesis: calls with values, layouts, kinks or extremes; programs; how to write them."""
