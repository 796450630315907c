"""Each law must catch its fault and pass what is right: test_NAME.py is for properties/laws/NAME.py."""
