"""What is measured: ops, backends, calls of ops, programs, engines that run them, planted faults."""
