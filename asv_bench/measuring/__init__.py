"""What measures: clocks, counters of calls and bytes, errors, runs of the properties. No benchmarks."""
