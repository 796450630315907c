"""Planted faults: wrong implementations of every op, and a measurement of how many the properties detect.

    python -m tests.faults --help

A fault is one op done wrong in one way, on NumPy. Most are made by transformations that fit any op (the
gradient is negated, the last element is zero, the cotangent is read in the order of memory). The rest are
written for one op, some of them after bugs that libraries once had.

The words of this package:
    fault       one op (or engine) done wrong in one way: "op: sentence", as in "tanh: the gradient is
                slightly too large"
    variant     one op done right in another way (right_*.py); no property may fail on it
    general     written once for all ops (by_*.py): the name of the function continues "the gradient ...", or
                begins with `value_`, or is a whole sentence if the fault changes a vjp
    own         written for one op (own_*.py); historic: likewise, a bug that a library once had, with its
                source
    engine      an implementation of reverse mode: a tiny one that goes wrong where branches meet, or the
                spec's own, spoilt for as long as the fault is tried
    kind        the family of a fault or variant, a column of the table: "size", "axes", "own", "formula"
    context     what a general fault is given: a CallContext (arrays, keywords, the right value), or for
                gradients a GradientContext (also the cotangent g, the right gradient of one argument, and
                `pull`, which gives the gradient for another cotangent)
    to plant    to make a backend that is the spec except for this one fault or variant
    likely      the property to try first; this saves time and decides nothing
    detection   the property that detected a fault, and at which of its examples; a fault without one has
                survived
    trial       one property on one thing that is right, a variant or an unmodified backend; if it fails, it
                is a false alarm
    equivalent  a general fault that changes nothing about some op: left out there, with the reason
                (equivalent.py)

One fault from beginning to end:
1. Written, in by_magnitude.py, as what becomes of the right gradient:

       @gradient_fault(KIND_SIZE, for_each_argument=True)
       def is_slightly_too_large(c: GradientContext) -> Array:
           return c.scale(1 + SLIGHT_RELATIVE_ERROR)

2. Registered. The decorator appends a GeneralFault to GENERAL_FAULTS. Of it `registry.faults()` makes one
   Fault for each op that has gradients (two for `divide`, one for each argument), unless equivalent.py lists
   it. One of them is named "tanh: the gradient is slightly too large".
3. Planted. `fault.plant()` calls planted_backends: `change_gradient` wraps the spec's rule of tanh, and
   `plant_rule` puts the result in the place of tanh in a copy of the numpy backend. To the properties this is
   a backend like any user's.
4. Tried. `detect_fault(fault, seed)` runs the properties that apply, the likely one first, until one fails.
   Each property draws its cases as the default profile does, once for all faults of tanh with this seed
   (drawn_cases.py); the exact results and the noise are computed once, too (shared_measures.py). The result
   is a Detection, or None.
5. Counted. A worker runs one OpTask (an op and a seed) at a time and returns a Measurement with one
   FaultOutcome for each fault. `summarize` collects the outcomes of all seeds in one FaultResult: the fault
   counts as detected if at least MIN_SHARE_OF_SEEDS of the seeds detected it. Beside it stand the trials of
   what is right (alarms.py): a single false alarm makes the command exit with 1.

Every property has one fault that it alone must detect: caught_by_one_property.py.
"""
