"""Tests of the spec: its ops and their declaration, the tape, `Tensor`."""
