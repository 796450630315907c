"""How fast, how exact, how much memory: benchmarks of every op and backend, generated from the ops, for asv.

asv imports every module here in whatever commit of gradspec it has installed, while the modules themselves are those of the
working tree: what only some commits have is imported where it is needed, and is n/a in the others. What reads the results lies in
`pages`, which has no __init__.py, so that asv does not import it: its libraries are not where the benchmarks run.
"""
