"""The properties: what must hold between every backend and the spec, and what checks it."""
