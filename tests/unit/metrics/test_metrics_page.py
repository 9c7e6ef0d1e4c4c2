"""A page that was rendered can be read back."""

from __future__ import annotations

import pytest

from gthreadsrv_metrics.page import parse_page


def test_series_with_their_labels_and_values() -> None:
    """Histogram parts and counters under the names on the page."""
    page = parse_page(
        '# TYPE a_total counter\na_total{x="1",b="2"} 3\n'
        '# TYPE h histogram\nh_bucket{le="+Inf"} 2\nh_sum 1.5\nh_count 2\n'
    )
    assert page["a_total"] == {(("b", "2"), ("x", "1")): 3.0}
    assert page["h_sum"] == {(): 1.5}


def test_what_is_no_page_is_said_to_be_none() -> None:
    """As where another server listens on the port."""
    with pytest.raises(ValueError):
        parse_page("<html>welcome</html>\n")
