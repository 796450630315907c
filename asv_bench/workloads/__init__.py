"""What is measured: ops and backends, calls of them, whole programs, the engines they run on."""
