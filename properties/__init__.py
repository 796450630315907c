"""What must hold between every backend and the spec."""
