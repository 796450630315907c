"""What tests of several folders use: backends with planted rules, runs of pytest as a user starts them."""
