"""How fast an op is: `gradspec time`, and the base of benchmarks for asv."""
