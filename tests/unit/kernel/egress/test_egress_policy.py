"""Address spellings, networks, ports and host rules: what leaves and what does not."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.egress.policy import (
    Allowed,
    Denied,
    Policy,
    Reason,
    decide,
    host_name,
    is_allowed_host,
    is_open_address,
    is_open_port,
    parse_address,
    parse_networks,
)

CLOSED = Policy()
LOOPBACK = Policy(parse_networks("127.0.0.0/8, ::1/128"))

ODD_SPELLINGS = {
    "127.0.0.1": "127.0.0.1",
    "127.0.0.1.": "127.0.0.1",
    "127.1": "127.0.0.1",
    "127.0.1": "127.0.0.1",
    "2130706433": "127.0.0.1",
    "0x7f000001": "127.0.0.1",
    "0X7F.1": "127.0.0.1",
    "0x7f.0.0.0x1": "127.0.0.1",
    "0177.0.0.1": "127.0.0.1",
    "017700000001": "127.0.0.1",
    "0": "0.0.0.0",
    "0x": "0.0.0.0",
    "00": "0.0.0.0",
    "127.65535": "127.0.255.255",
    "[::1]": "::1",
    "::1": "::1",
    "[::ffff:127.0.0.1]": "127.0.0.1",
    "::ffff:7f00:1": "127.0.0.1",
    "0:0:0:0:0:ffff:127.0.0.1": "127.0.0.1",
    "[64:FF9B::127.0.0.1]": "64:ff9b::7f00:1",
    "2002:7f00:1::": "2002:7f00:1::",
}

NO_ADDRESSES = [
    "1.2.3.256",
    "256.1.1.1",
    "1.2.3.4.5",
    "0x7f.1.1.1.1",
    "4294967296",
    "1..1",
    "08.1",
    "0xg",
    "0x7f.0xzz",
    "0x-1",
    "0x 1",
    "0x1_0",
    "[::1",
    "::1]",
    "[fe80::1%25eth0]",
    "fe80::1%eth0",
    "a:b",
    "shop.example.1",
    "1_0.1",
    "9" * 40,
]

CLOSED_ADDRESSES = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "::ffff:10.0.0.1",
]

OPEN_ADDRESSES = [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "::ffff:8.8.8.8",
    "2606:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize(("spelt", "meant"), ODD_SPELLINGS.items())
def test_every_spelling_of_an_address_is_read_as_a_browser_reads_it(spelt: str, meant: str) -> None:
    assert parse_address(spelt) == ip_address(meant)


@pytest.mark.parametrize("host", NO_ADDRESSES)
def test_what_looks_like_an_address_and_is_none_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"address|number"):
        parse_address(host)
    assert decide(host, 443, [ip_address("8.8.8.8")], CLOSED, None) == Denied(Reason.BAD_HOST)


@pytest.mark.parametrize("name", ["shop.example", "1.shop.example", "0x7f.example", "a", "xn--bcher-kva.example"])
def test_a_name_is_no_address(name: str) -> None:
    assert parse_address(name) is None


@pytest.mark.parametrize("text", CLOSED_ADDRESSES)
def test_a_closed_network_is_never_dialled(text: str) -> None:
    assert not is_open_address(ip_address(text), CLOSED)
    assert decide("shop.example", 443, [ip_address(text)], CLOSED, None) == Denied(Reason.ADDRESS)


@pytest.mark.parametrize("text", OPEN_ADDRESSES)
def test_the_public_network_is_open(text: str) -> None:
    assert is_open_address(ip_address(text), CLOSED)


def test_an_allowed_network_wins_over_the_deny_list_in_every_spelling() -> None:
    assert is_open_address(ip_address("127.0.0.1"), LOOPBACK)
    assert is_open_address(ip_address("::ffff:127.0.0.1"), LOOPBACK)
    assert is_open_address(ip_address("::1"), LOOPBACK)
    assert not is_open_address(ip_address("10.0.0.1"), LOOPBACK)
    assert not is_open_address(ip_address("64:ff9b::7f00:1"), LOOPBACK)


def test_an_allowed_nat64_network_opens_only_what_the_address_behind_it_would() -> None:
    nat64 = Policy(parse_networks("64:ff9b::/96"))
    assert is_open_address(ip_address("64:ff9b::808:808"), nat64)
    assert not is_open_address(ip_address("64:ff9b::7f00:1"), nat64)
    assert not is_open_address(ip_address("64:ff9b::a9fe:a9fe"), nat64)


def test_closed_addresses_are_filtered_from_an_answer_that_mixes_both() -> None:
    answer = decide("shop.example", 443, [ip_address("127.0.0.1"), ip_address("8.8.8.8")], CLOSED, None)
    assert answer == Allowed((ip_address("8.8.8.8"),))
    assert isinstance(answer, Allowed)
    assert answer.address == ip_address("8.8.8.8")


def test_a_name_without_an_address_is_unresolved() -> None:
    assert decide("shop.example", 443, [], CLOSED, None) == Denied(Reason.UNRESOLVED)


@pytest.mark.parametrize(
    ("port", "is_open"),
    [
        (80, True),
        (443, True),
        (1024, True),
        (8443, True),
        (65535, True),
        (0, False),
        (22, False),
        (25, False),
        (1023, False),
        (65536, False),
        (-1, False),
    ],
)
def test_ports_80_and_443_and_1024_up_are_open(port: int, is_open: bool) -> None:
    assert is_open_port(port) is is_open
    assert (decide("shop.example", port, [ip_address("8.8.8.8")], CLOSED, None) == Denied(Reason.PORT)) is not is_open


@pytest.mark.parametrize(
    ("rule", "host", "is_covered"),
    [
        ("shop.example", "shop.example", True),
        ("shop.example", "SHOP.Example.", True),
        ("shop.example", "www.shop.example", False),
        (".shop.example", "www.shop.example", True),
        (".shop.example", "a.b.shop.example", True),
        (".shop.example", "shop.example", True),
        (".shop.example", "evilshop.example", False),
        (".shop.example", "shop.example.evil.example", False),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("127.0.0.1", "0x7f.1", True),
        ("[::1]", "::1", True),
        (".1", "127.0.0.1", False),
        ("", "shop.example", False),
        ("*", "shop.example", False),
    ],
)
def test_host_rules_cover_exactly_or_with_a_leading_dot_what_is_below(rule: str, host: str, is_covered: bool) -> None:
    assert is_allowed_host(host_name(host), [rule]) is is_covered


def test_no_rule_allows_every_host_and_an_empty_rule_allows_none() -> None:
    public = [ip_address("8.8.8.8")]
    assert isinstance(decide("shop.example", 443, public, CLOSED, None), Allowed)
    assert decide("shop.example", 443, public, CLOSED, ()) == Denied(Reason.HOST)
    assert isinstance(decide("shop.example", 443, public, CLOSED, ("shop.example",)), Allowed)


@pytest.mark.parametrize(
    "host", ["", ".", "a..b", "a b", "user@shop.example", "shop.example/x", "a\x00b", "x" * 64, "%31.1"]
)
def test_what_is_no_host_name_is_refused(host: str) -> None:
    assert decide(host, 443, [ip_address("8.8.8.8")], CLOSED, None) == Denied(Reason.BAD_HOST)


def test_a_setting_that_is_no_network_is_named() -> None:
    with pytest.raises(ValueError, match="loopback"):
        parse_networks("127.0.0.0/8, loopback")
    assert parse_networks(" ") == ()


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_a_mapped_address_is_judged_as_the_address_it_maps(number: int) -> None:
    plain = ip_address(number)
    assert is_open_address(plain, CLOSED) == is_open_address(ip_address(f"::ffff:{plain}"), CLOSED)
    assert parse_address(str(number)) == plain == parse_address(hex(number))


@given(st.text(max_size=60))
def test_any_text_as_a_host_gets_an_answer(host: str) -> None:
    assert isinstance(decide(host, 443, [ip_address("8.8.8.8")], CLOSED, None), Allowed | Denied)
