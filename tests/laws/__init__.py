"""Each law catches the fault it exists for, and lets pass what is right.

test_NAME.py tries properties/laws/NAME.py; symmetries are in test_batches.py, layouts in test_purity.py, and
value, gradient and dtype, which need least, in one file.
"""
