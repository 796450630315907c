"""Every op of the spec, an op of several values with each of them picked in turn."""

from gradspec.reference import OPS, Op


def name_form(form: Op) -> str:
    """Return the name of an op; with the number of its picked value, as in "sort[1]"."""
    return form.name if form.picked is None else f"{form.name}[{form.picked}]"


FORMS: dict[str, Op] = {name_form(form): form for op in OPS.values() for form in op.value_forms}
"""By such a name, the ops of one value and the forms of those of several."""
