"""Numbers and texts in settings."""

import pytest
from pykafka.exceptions import UnicodeException
from pykafka.utils import deserialize_utf8, serialize_utf8
from pykafka.utils.error_handlers import valid_int
from pykafka.utils.names import to_bytes


@pytest.mark.parametrize("value", [1, 1.0, 1 << 40])
def test_a_number_is_taken(value):
    assert valid_int(value) == value


@pytest.mark.parametrize("value", ["1", b"1", None, [], object()])
def test_what_is_no_number_is_a_type_error(value):
    with pytest.raises(TypeError):
        valid_int(value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1 << 63])
def test_a_number_out_of_range_is_a_value_error(value):
    with pytest.raises(ValueError):
        valid_int(value)


def test_zero_and_negative_numbers_are_taken_where_they_are_allowed():
    assert valid_int(0, allow_zero=True) == 0
    assert valid_int(-1, allow_negative=True) == -1


def test_a_name_becomes_bytes():
    assert to_bytes("name", "it") == to_bytes(b"name", "it") == b"name"


@pytest.mark.parametrize("name", ["gr\u00fcn", "gr\u00fcn".encode()])
def test_a_name_that_is_not_ascii_is_refused(name):
    with pytest.raises(UnicodeException):
        to_bytes(name, "it")


def test_the_stock_serializers_keep_none_apart_from_empty():
    assert serialize_utf8("\u00e4", None) == ("\u00e4".encode(), None)
    assert deserialize_utf8(None, b"") == (None, "")
