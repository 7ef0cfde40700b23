"""What a payload may say, and that everything else is told with the field's path."""

from __future__ import annotations

import socket
from copy import deepcopy
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain import payload_types, payloads
from counterfoil.domain.organisations import Host
from counterfoil.domain.payloads import (
    POINTS_MAX,
    Redemption,
    find_host,
    mask,
    parse_hostname,
    points_from_wire,
    points_text,
    read_entity_info,
    read_redemption,
)
from counterfoil.domain.refusals import BadHeaders, BadUri, InvalidPayload, TypeNotSupported

KIND = "POINTS-REDEMPTION"
TASK = "payload.IntouchAPITask-Payload"
REDEEM = f"{TASK}.body.root.redeem"

# The request of the contract page, value by value.
CONTRACT: dict[str, Any] = {
    "entityInfo": {
        "tillId": "50682289",
        "storeId": "50682288",
        "zoneId": "50682286",
        "conceptId": "50678331",
    },
    "payload": {
        "IntouchAPITask-Payload": {
            "hostname": "<https://crm-nightly-new.cc.capillarytech.com>",
            "path": "/v1.1/points/redeem",
            "method": "POST",
            "pathParams": {},
            "queryParams": {"skip_validation": "true", "format": "json"},
            "body": {
                "root": {
                    "redeem": {
                        "points_redeemed": "100",
                        "customer": {"mobile": "9988776655"},
                        "redemption_time": "2020-04-15 23:01:46",
                        "transaction_number": "numbr892723330323421971280",
                        "notes": "Redemption by SMS",
                        "external_reference_number": "ACR-583523332039150121",
                    }
                }
            },
            "headers": {
                "Authorization": "Basic aW5kLjE6MjAyY2I5NjJhYzU5MDc1Yjk2NGIwNzE1MmQyMzRiNzA=",
                "content-type": "application/json",
                "X-CAP-CLIENT-SIGNATURE": "jatin",
            },
        }
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    """The contract's request with one value replaced, or taken out where `value` is `...`."""
    envelope = deepcopy(CONTRACT)
    *parents, last = path.split("/")
    place = envelope
    for each in parents:
        place = place[each]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return envelope


def read_call(kind: str, envelope: dict[str, Any]) -> Any:
    wanted = payload_types.TYPES[kind]
    return payloads.read_call(kind, wanted.path, wanted.methods, envelope)


def read(envelope: dict[str, Any]) -> Redemption:
    return read_redemption(read_call(KIND, envelope)["body"])


def test_the_request_of_the_contract_is_read() -> None:
    assert read(CONTRACT) == Redemption(
        points=100_000,
        identifier_kind="mobile",
        identifier_value="9988776655",
        external_reference="ACR-583523332039150121",
        transaction_number="numbr892723330323421971280",
        notes="Redemption by SMS",
    )
    assert read_entity_info(CONTRACT["entityInfo"]) == {
        "tillId": 50682289,
        "storeId": 50682288,
        "zoneId": 50682286,
        "conceptId": 50678331,
    }


# ---------------------------------------------------------------- points


@pytest.mark.parametrize(
    ("sent", "thousandths"),
    [
        ("100", 100_000),
        (100, 100_000),
        (1, 1_000),
        ("12.5", 12_500),
        (Decimal("12.5"), 12_500),
        ("0.001", 1),
        (Decimal("0.001"), 1),
        ("007", 7_000),
        (Decimal("1E+2"), 100_000),
        (Decimal("100.0"), 100_000),
        (Decimal("1.2300000"), 1_230),
        ("999999999999.999", POINTS_MAX),
        (999_999_999_999, 999_999_999_999_000),
        (Decimal("999999999999.999"), POINTS_MAX),
    ],
)
def test_points_are_read_exactly(sent: object, thousandths: int) -> None:
    assert points_from_wire(sent, "p") == thousandths


@pytest.mark.parametrize(
    "sent",
    [
        "0", 0, "0.000", Decimal(0), Decimal("-0"), Decimal("0.0"),
        "-1", -1, "-100", Decimal("-0.5"), "+1",
        "1.2345", Decimal("1.2345"), "0.0001", Decimal("1E-4"), Decimal("1E-30"),
        "NaN", Decimal("NaN"), Decimal("sNaN"), "Infinity", "inf", Decimal("Infinity"), Decimal("-Infinity"),
        "1_000", "1,000", "1 000", " 100", "100 ", "100\n", "\t1", "", " ", "abc", "0x10", "1e2", "1E2",
        "٣", "\uff11\uff10\uff10", "1.\u0665", "²",
        ".5", "5.", "1.2.3", ".", "1..2",
        "1000000000000", 1_000_000_000_000, 10**30, -(10**30), 10**400, Decimal("1E+400"), Decimal(10) ** 30,
        True, False, None, [], ["100"], {}, {"points": 1}, 1.5, b"100",
    ],
    ids=repr,
)  # fmt: skip
def test_everything_else_is_no_number_of_points(sent: object) -> None:
    with pytest.raises(InvalidPayload) as refused:
        points_from_wire(sent, "payload.points")
    assert (refused.value.code, refused.value.path) == (2008, "payload.points")
    assert "payload.points must be" in refused.value.message


@given(st.integers(1, POINTS_MAX))
def test_points_survive_being_printed_and_read(points: int) -> None:
    text = points_text(points)
    assert points_from_wire(text, "p") == points
    assert points_from_wire(Decimal(text), "p") == points
    assert Decimal(text) * 1000 == points
    assert not text.endswith(".")
    assert "." not in text or not text.endswith("0")


@given(st.text(max_size=20))
def test_any_text_is_a_number_of_points_or_refused(text: str) -> None:
    try:
        points = points_from_wire(text, "p")
    except InvalidPayload:
        return
    assert text.isascii()
    assert points == Decimal(text) * 1000 > 0


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_any_number_is_read_exactly_or_refused(number: Decimal) -> None:
    try:
        points = points_from_wire(number, "p")
    except InvalidPayload:
        return
    assert points == number * 1000


# ---------------------------------------------------------------- the redeem body


def test_redeem_may_be_an_object_or_an_array_of_one() -> None:
    item = CONTRACT["payload"]["IntouchAPITask-Payload"]["body"]["root"]["redeem"]
    in_array = changed("payload/IntouchAPITask-Payload/body/root/redeem", [item])
    assert read(in_array) == read(CONTRACT)


@pytest.mark.parametrize(
    ("redeem", "path"),
    [
        ([], REDEEM),
        ([{}, {}], REDEEM),
        ("100", REDEEM),
        (None, REDEEM),
        ([[]], f"{REDEEM}[0]"),
        ({}, f"{REDEEM}.points_redeemed"),
        ([{"customer": {"mobile": "1"}}], f"{REDEEM}[0].points_redeemed"),
        ({"points_redeemed": "1"}, f"{REDEEM}.customer"),
        ({"points_redeemed": "1", "customer": []}, f"{REDEEM}.customer"),
        ({"points_redeemed": "1", "customer": {}}, f"{REDEEM}.customer"),
        ({"points_redeemed": "1", "customer": {"mobile": "", "email": " ", "card_number": None}},
         f"{REDEEM}.customer"),
        ({"points_redeemed": "1", "customer": {"mobile": True}}, f"{REDEEM}.customer.mobile"),
        ({"points_redeemed": "1", "customer": {"mobile": ["1"]}}, f"{REDEEM}.customer.mobile"),
        ({"points_redeemed": "1", "customer": {"mobile": "1" * 201}}, f"{REDEEM}.customer.mobile"),
        ({"points_redeemed": "-100", "customer": {"mobile": "1"}}, f"{REDEEM}.points_redeemed"),
        ({"points_redeemed": "1", "customer": {"mobile": "1"}, "notes": {}}, f"{REDEEM}.notes"),
        ({"points_redeemed": "1", "customer": {"mobile": "1"}, "notes": "n" * 1001}, f"{REDEEM}.notes"),
        ({"points_redeemed": "1", "customer": {"mobile": "1"}, "external_reference_number": "r" * 256},
         f"{REDEEM}.external_reference_number"),
        ({"points_redeemed": "1", "customer": {"mobile": "1"}, "redemption_time": False},
         f"{REDEEM}.redemption_time"),
    ],
)  # fmt: skip
def test_a_redeem_body_that_cannot_be_read_names_the_field(redeem: object, path: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        read(changed("payload/IntouchAPITask-Payload/body/root/redeem", redeem))
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("customer", "kind", "value"),
    [
        ({"mobile": 9988776655}, "mobile", "9988776655"),
        ({"mobile": "", "external_id": "", "email": "a@b.c", "card_number": ""}, "email", "a@b.c"),
        ({"mobile": None, "external_id": " XYPZ0063 "}, "external_id", "XYPZ0063"),
        ({"card_number": "4711", "email": "a@b.c"}, "email", "a@b.c"),
        ({"email": "a@b.c", "mobile": "1"}, "mobile", "1"),
    ],
)
def test_the_member_is_named_by_the_first_identifier_that_is_there(
    customer: dict[str, Any], kind: str, value: str
) -> None:
    asked = read(changed("payload/IntouchAPITask-Payload/body/root/redeem/customer", customer))
    assert (asked.identifier_kind, asked.identifier_value) == (kind, value)


@pytest.mark.parametrize("sent", ["", None, ...])
def test_an_empty_reference_is_none(sent: object) -> None:
    envelope = changed("payload/IntouchAPITask-Payload/body/root/redeem/external_reference_number", sent)
    assert read(envelope).external_reference is None


# ---------------------------------------------------------------- the call around the body


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("payload", ..., "payload"),
        ("payload", [], "payload"),
        ("payload/IntouchAPITask-Payload", ..., TASK),
        ("payload/IntouchAPITask-Payload", "x", TASK),
        ("payload/IntouchAPITask-Payload/hostname", ..., f"{TASK}.hostname"),
        ("payload/IntouchAPITask-Payload/hostname", "", f"{TASK}.hostname"),
        ("payload/IntouchAPITask-Payload/hostname", 5, f"{TASK}.hostname"),
        ("payload/IntouchAPITask-Payload/path", "/v1.1/points/reverse", f"{TASK}.path"),
        ("payload/IntouchAPITask-Payload/path", "/v1.1/points/redeem/", f"{TASK}.path"),
        ("payload/IntouchAPITask-Payload/path", ..., f"{TASK}.path"),
        ("payload/IntouchAPITask-Payload/method", "PUT", f"{TASK}.method"),
        ("payload/IntouchAPITask-Payload/method", None, f"{TASK}.method"),
        ("payload/IntouchAPITask-Payload/pathParams", "x", f"{TASK}.pathParams"),
        ("payload/IntouchAPITask-Payload/queryParams", {"format": {}}, f"{TASK}.queryParams.format"),
        ("payload/IntouchAPITask-Payload/headers", ..., f"{TASK}.headers"),
        ("payload/IntouchAPITask-Payload/headers", [], f"{TASK}.headers"),
        ("payload/IntouchAPITask-Payload/body", ..., f"{TASK}.body"),
        ("payload/IntouchAPITask-Payload/body", "{}", f"{TASK}.body"),
    ],
)
def test_a_call_that_does_not_fit_its_type_names_the_field(field: str, value: object, path: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        read_call(KIND, changed(field, value))
    assert refused.value.path == path


@pytest.mark.parametrize("params", [{}, None, ..., {"format": "json", "n": 1, "empty": None}])
def test_parameters_may_be_missing_or_scalars(params: object) -> None:
    read_call(KIND, changed("payload/IntouchAPITask-Payload/queryParams", params))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic x", "authorization": "Basic y"},
        {"Authorization": "Basic x", "not a name": "x"},
        {"Authorization": "Basic x", "": "x"},
        {"Authorization": "Basic x", "näme": "x"},
        {"Authorization": "Basic x", "n" * 129: "x"},
        {"Authorization": 5},
        {"Authorization": None},
        {"Authorization": "Basic x\r\nX-Other: y"},
        {"Authorization": "Basic \x00"},
        {"Authorization": "Basic x", "X-Other": 5},
        {"Authorization": "Basic x", "accept": True},
        {"Authorization": "Basic x", "accept": 1.5},
        {"Authorization": "x" * 8193},
        {"Authorization": "Basic <withheld>"},
        {"Authorization": "Basic x", "X-Other": "<withheld>"},
        {"Authorization": "Basic x", "accept": "text/<withheld>"},
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers: dict[str, object]) -> None:
    with pytest.raises(BadHeaders) as refused:
        read_call(KIND, changed("payload/IntouchAPITask-Payload/headers", headers))
    assert refused.value.code == 2023


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"accept": "*/*"},
        {"Authorization": "Basic ind.é"},
        {"Authorization": "Basic x", "X-CAP-API-AUTH-ORG-ID": 51250},
        {"authorization": "", "x" * 128: "v" * 8192},
    ],
)
def test_other_headers_are_taken_as_they_are(headers: dict[str, object]) -> None:
    assert read_call(KIND, changed("payload/IntouchAPITask-Payload/headers", headers))["headers"] == headers


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", "Basic aW5kLjE6MjAyY2I5", "Basic <withheld>"),
        ("authorization", "Bearer eyJ.x.y", "Bearer <withheld>"),
        ("AUTHORIZATION", "Basic a b c", "Basic <withheld>"),
        ("Authorization", "aW5kLjE6MjAyY2I5", "<withheld>"),
        ("Authorization", "Digest username=x", "<withheld>"),
        ("Authorization", "s3cret Basic", "<withheld>"),
        ("X-Api-Key", "Basic x", "<withheld>"),
    ],
)
def test_a_mask_keeps_the_scheme_and_nothing_of_the_secret(name: str, value: str, shown: str) -> None:
    assert mask(name, value) == shown


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
def test_a_mask_is_one_of_three_whatever_the_secret(secret: str) -> None:
    masks = {"<withheld>", "Basic <withheld>", "Bearer <withheld>"}
    assert {mask("Authorization", f"{scheme}{secret}") for scheme in ("", "Basic ", "Bearer ")} <= masks


# ---------------------------------------------------------------- units, types


@pytest.mark.parametrize(
    ("sent", "ids"),
    [
        ({}, (None, None, None, None)),
        ({"tillId": "", "storeId": None}, (None, None, None, None)),
        ({"tillId": 50682289}, (50682289, None, None, None)),
        ({"zoneId": "9223372036854775807"}, (None, None, 2**63 - 1, None)),
        ({"conceptId": "007", "other": []}, (None, None, None, 7)),
    ],
)
def test_unit_ids_are_strings_of_digits(sent: object, ids: tuple[int | None, ...]) -> None:
    assert tuple(read_entity_info(sent).values()) == ids


@pytest.mark.parametrize(
    "sent",
    ["5068 2289", "-1", "+1", "1.0", Decimal("1.0"), "٣", "1_0", True, [], {}, "9223372036854775808", 2**63],
    ids=repr,
)
def test_other_unit_ids_are_refused(sent: object) -> None:
    with pytest.raises(InvalidPayload) as refused:
        read_entity_info({"storeId": sent})
    assert refused.value.path == "entityInfo.storeId"


@pytest.mark.parametrize("sent", [None, [], "x", 1])
def test_entity_info_is_an_object(sent: object) -> None:
    with pytest.raises(InvalidPayload, match="entityInfo must be a JSON object"):
        read_entity_info(sent)


def test_the_type_in_the_url_is_read_in_any_case() -> None:
    assert payload_types.request_type("points-Redemption") == KIND
    assert payload_types.known_type("goodwill-points") == "GOODWILL-POINTS"


@pytest.mark.parametrize("segment", ["ADMIN-CHANGE", "POINTS", "", "points_redemption"])
def test_other_types_are_refused(segment: str) -> None:
    with pytest.raises(TypeNotSupported):
        payload_types.request_type(segment)


# ---------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    "hostname",
    [
        "<https://crm-nightly-new.cc.capillarytech.com>",
        "https://crm-nightly-new.cc.capillarytech.com",
        "crm-nightly-new.cc.capillarytech.com",
        "https://crm-nightly-new.cc.capillarytech.com/",
        "<https://crm-nightly-new.cc.capillarytech.com/>",
        "https://crm-nightly-new.cc.capillarytech.com:443",
        "https://crm-nightly-new.cc.capillarytech.com:443/",
        "HTTPS://CRM-Nightly-New.CC.capillarytech.COM",
        "  < https://crm-nightly-new.cc.capillarytech.com > ",
    ],
)
def test_spellings_of_one_host_are_one(hostname: str) -> None:
    assert parse_hostname(hostname) == ("https", "crm-nightly-new.cc.capillarytech.com", 443)


@pytest.mark.parametrize(
    ("hostname", "address"),
    [
        ("http://api.example.com", ("http", "api.example.com", 80)),
        ("http://api.example.com:8080", ("http", "api.example.com", 8080)),
        ("https://127.0.0.1:1", ("https", "127.0.0.1", 1)),
        ("localhost", ("https", "localhost", 443)),
    ],
)
def test_scheme_and_port_count(hostname: str, address: tuple[str, str, int]) -> None:
    assert parse_hostname(hostname) == address


TRICKS = [
    "", "<>", "https://", "//api.example.com", "ftp://api.example.com", "javascript://api.example.com",
    "https://user@api.example.com", "https://api.example.com@evil.com", "https://evil.com#api.example.com",
    "https://evil.com?api.example.com", "https://evil.com/api.example.com", "https://api.example.com//",
    "https://api.example.com/v1", "https://api.example.com\\.evil.com", "https://api.example.com%2f.evil.com",
    "https://api.example.com%00.evil.com", "https://api.example.com\x00", "https://api.example.com\n.evil.com",
    "https://api .example.com", "https://api\t.example.com", "https://api..example.com", "https://.example.com",
    "https://api.example.com.", "https://-api.example.com", "https://api.example.com:", "https://api.example.com:0",
    "https://api.example.com:65536", "https://api.example.com:99999999999", "https://api.example.com:٤٤٣",
    "https://api.example.com:443:443", "https://[::1]", "https://::1", "https:/api.example.com",
    "https:api.example.com", "https://https://api.example.com", "<<https://api.example.com>>",
    "https://api_example.com", "https://api.example.com,evil.com", "https://\uff41\uff50\uff49.example.com",
    "https://api\u3002example.com", "https://\u212aey.example.com", "https://api.example.com\u2024", "https://*.example.com",
    "https://" + "a" * 254, "\u3000https://api.example.com", "https://api.example.com\r\n", "\thttps://api.example.com",
    "https://2130706433", "http://0x7f000001", "http://0x7f.0.0.1", "http://127.1", "http://0177.0.0.1", "http://0x",
    "http://127.0.0.256", "http://127.0.0.1.1", "http://0300.0250.1", "http://169.254.169.254.", "http://1.2.3.04",
    "http://api.example.0x1f", "https://[::ffff:127.0.0.1]", "https://[fe80::1%25eth0]", "https://0:0:0:0:0:ffff:7f00:1",
    "https://api.example.com%2eevil.com", "https://api.example.com%5c", "https://api.example.com/..", "https://..",
]  # fmt: skip


@pytest.mark.parametrize("hostname", TRICKS, ids=ascii)
def test_what_is_not_plainly_a_host_is_refused(hostname: str) -> None:
    assert parse_hostname(hostname) is None
    refused = find_host([Host("h", "https", "api.example.com", 443, "ledger")], hostname)
    assert isinstance(refused, InvalidPayload)
    assert refused.path == f"{TASK}.hostname"


@given(st.from_regex(r"(0x)?[0-9a-f]{1,4}(\\.(0x)?[0-9a-f]{1,4}){0,4}", fullmatch=True))
def test_a_number_is_an_address_only_in_its_plain_form(name: str) -> None:
    address = parse_hostname(f"http://{name}")
    if address is None:
        return
    try:
        socket.inet_aton(name)  # what a resolver would take for an address, however it is spelled
    except OSError:
        return
    assert str(IPv4Address(name)) == name


PATHS = [
    "//evil.example.com/v1.1/points/redeem", "/v1.1/points/../points/redeem", "/v1.1/points/%2e%2e/points/redeem",
    "/v1.1/points%2fredeem", "/v1.1/points%5credeem", "/v1.1\\points\\redeem", "/v1.1/points/redeem%00",
    "/v1.1/points/redeem?to=x", "/v1.1/points/redeem#x", "/v1.1/points/redeem ", " /v1.1/points/redeem",
    "/v1.1/points/redeem\r\nHost: x", "/v1.1/points/redeem\x00", "v1.1/points/redeem", "/V1.1/points/redeem",
    "@evil.example.com/v1.1/points/redeem", "/v1.1/points/redeem;x=1", "/v1.1/./points/redeem", "/v1.1//points/redeem",
    "/v1.1/points/\uff52edeem", "https://evil.example.com/v1.1/points/redeem", "/v1.1/points/redee%6d",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_a_path_is_the_type_s_own_to_the_letter(path: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        read_call(KIND, changed("payload/IntouchAPITask-Payload/path", path))
    assert (refused.value.code, refused.value.path) == (2008, f"{TASK}.path")


@given(st.text(max_size=40))
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises((InvalidPayload, BadUri)):
        read_call(KIND, changed("payload/IntouchAPITask-Payload/path", f"/v1.1/points/redeem{path}x"))


@given(st.text(max_size=40).map(lambda text: f"https://{text}"))
def test_a_host_that_is_read_is_spelled_plainly(hostname: str) -> None:
    address = parse_hostname(hostname)
    if address is not None:
        assert hostname.strip().isascii()
        assert set(address[1]) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
        assert parse_hostname(f"{address[0]}://{address[1]}:{address[2]}") == address


def host(pattern: str, *, scheme: str = "https", port: int = 443) -> Host:
    return Host(pattern, scheme, pattern, port, "ledger")


@pytest.mark.parametrize(
    ("hostname", "found"),
    [
        ("https://api.example.com", "api.example.com"),
        ("https://eu.example.com", "*.example.com"),
        ("https://a.b.example.com", "*.b.example.com"),
        ("https://b.example.com", "*.example.com"),
        ("https://example.com", None),
        ("https://evilexample.com", None),
        ("https://api.example.com.evil.com", None),
        ("http://api.example.com", None),
        ("https://api.example.com:8443", None),
    ],
)
def test_exact_names_win_over_suffixes_and_longer_ones_over_shorter(hostname: str, found: str | None) -> None:
    table = [host("*.example.com"), host("api.example.com"), host("*.b.example.com")]
    entry = find_host(table, hostname)
    if found is None:
        assert isinstance(entry, InvalidPayload)
        assert "counterfoil org apply" in entry.message
    else:
        assert isinstance(entry, Host)
        assert entry.pattern == found
