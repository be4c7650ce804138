"""Numbers as people read them, and the files they come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.evaluation.metric_file import Value
from pipeline.reporting.numbers import indistinct, plain, with_spread
from pipeline.reporting.ratings import read_ratings


@given(st.floats(0.01, 1e6))
def test_plain_numbers_read_back_to_three_digits_without_exponent(value):
    text = plain(value)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=1e-3)


def test_value_and_spread_share_their_decimals():
    assert with_spread(Value(12.345, 1.26)) == "12.3 ± 1.3"
    assert with_spread(Value(0.4567, 0.0123)) == "0.457 ± 0.012"
    assert with_spread(Value(0.0, 0.0)) == "0.00 ± 0.00"
    assert with_spread(Value(1234.5, None)) == "1234 (no spread)"


def test_a_difference_is_shown_only_beyond_the_larger_spread():
    assert indistinct(Value(1.0, 0.1), Value(1.4, 0.5))
    assert not indistinct(Value(1.0, 0.1), Value(1.4, 0.3))
    assert not indistinct(Value(1.0, None), Value(1.4, None))


def test_a_damaged_ratings_file_names_its_line(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("run,rating\na,2.5\nb,good\n")
    with pytest.raises(PipelineError, match="line 3"):
        read_ratings(path)
