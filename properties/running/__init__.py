"""Running the properties: what a run selects and for how long, how it saves failures, and what it reports."""
