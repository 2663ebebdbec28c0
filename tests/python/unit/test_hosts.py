"""How `hosts` is parsed."""

import pytest
from pykafka.utils.names import parse_hosts


@pytest.mark.parametrize(
    ("hosts", "addresses"),
    [
        ("h:1", [("h", 1)]),
        (b"h:1", [("h", 1)]),
        ("h1:1, h2:2,h3:3,", [("h1", 1), ("h2", 2), ("h3", 3)]),
        ("h:1,h:1", [("h", 1)]),
        ("h:9092/chroot", [("h", 9092)]),
        ("\t h1:1\r\n,\n\x0bh2:2 \n", [("h1", 1), ("h2", 2)]),
        ("h", [("h", 9092)]),
        ("[::1]", [("::1", 9092)]),
        ("[::1]:9092", [("::1", 9092)]),
        ("a.b-c_d.example.:65535", [("a.b-c_d.example.", 65535)]),
    ],
)
def test_a_list_is_read(hosts, addresses):
    assert parse_hosts(hosts) == addresses


def test_ten_thousand_hosts_are_read():
    assert len(parse_hosts(",".join(f"h{number}:9092" for number in range(10_000)))) == 10_000


@pytest.mark.parametrize(
    "element",
    [
        *("a:b", "h:0", "h:65536", "h:-1", "h:9092x", ":9092", "h:", "::1", "PLAINTEXT://h:9092"),
        *("h\0:1", "h\n:1", "gr\u00fcn:1", "h h:1", "h:\u0661", "[h]:1"),
    ],
)
def test_an_element_that_is_no_address_is_named(element):
    with pytest.raises(ValueError) as raised:
        parse_hosts(f"good:9092,{element}")
    assert element.replace("\n", r"\n").replace("\0", r"\u{0}") in str(raised.value)


@pytest.mark.parametrize("hosts", ["", " ", ",", " , ", None, 9092, ["h:1"]])
def test_no_address_at_all_is_refused(hosts):
    with pytest.raises(ValueError):
        parse_hosts(hosts)
