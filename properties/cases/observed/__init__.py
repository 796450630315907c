"""Facts of an op that are observed from the spec: what adds up, what is a batch, which symmetries hold.

An op is tried as hard as its facts demand, whoever declared it and whatever its name is. Each fact is
observed when it is first asked for, on cases that depend on the op alone, and remembered.
"""
