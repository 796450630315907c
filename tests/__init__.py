"""Tests of gradspec itself; imported as `tests.`, so that no folder of it shadows a library."""
