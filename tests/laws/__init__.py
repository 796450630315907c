"""Each law catches the fault it exists for, and lets pass what is right: test_NAME.py for properties/laws/NAME.py."""
