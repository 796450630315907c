"""Do arrays and gradients pass the adapter, before anything else is asked?"""

from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.first_contact import (
    SUBJECTS,
    FirstContact,
    arrays_and_gradients_pass_the_adapter,
)
from gradspec.properties.running.targets import BackendUnderTest


@given(data=st.data())
def test_arrays_and_gradients_pass_the_adapter(
    adapter_under_test: BackendUnderTest, data: st.DataObject
) -> None:
    """Its own fault: labels of int64 become int32."""
    subjects = data.draw(st.just(SUBJECTS))
    for dtype in adapter_under_test.dtypes:
        for subject in subjects:
            contact = FirstContact(dtype, subject)
            adapter_under_test.check_law(arrays_and_gradients_pass_the_adapter, contact)
