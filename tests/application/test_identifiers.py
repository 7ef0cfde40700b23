"""One normal form per identifier: stable, and the same whoever asks."""

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from counterfoil.application import identifiers
from counterfoil.application.identifiers import KINDS, normalise

CODES = sorted({str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE})
CODE = st.sampled_from(["91", "91", "1", "44", "7", "39", "52", "54", "55", "65", "998", *CODES])
DIGITS = st.text("0123456789", min_size=1, max_size=15)


def by_the_library(digits: str, country_code: str) -> str:
    region = phonenumbers.region_code_for_country_code(int(country_code))
    try:
        number = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return digits
    if not phonenumbers.is_valid_number(number):
        return digits
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]


@st.composite
def mobiles(draw: st.DrawFn) -> tuple[str, str]:
    """A real example number of some country, bent a little, and a country code."""
    code = draw(CODE)
    region = phonenumbers.region_code_for_country_code(int(draw(st.sampled_from([code, code, "91", "65"]))))
    sample = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    if sample is None:
        return draw(DIGITS), code
    national = phonenumbers.national_significant_number(sample)
    tail = draw(st.text("0123456789", max_size=6))
    national = national[: len(national) - len(tail)] + tail
    prefix = draw(st.sampled_from(["", "", "+", "0", "00", "1", str(sample.country_code), f"+{sample.country_code} "]))
    return prefix + national, code


@pytest.mark.parametrize(
    ("kind", "typed", "country_code", "stored"),
    [
        ("mobile", "9988776655", "91", "919988776655"),
        ("mobile", "919988776655", "91", "919988776655"),
        ("mobile", " +91 99887-76655 ", "91", "919988776655"),
        ("mobile", "09988776655", "91", "919988776655"),
        ("mobile", "00919988776655", "91", "919988776655"),
        ("mobile", "9198765432", "91", "919198765432"),
        ("mobile", "07400 123456", "44", "447400123456"),
        ("mobile", "+44 7400 123456", "91", "447400123456"),
        ("mobile", "2025550123", "1", "12025550123"),
        ("mobile", "12", "91", "12"),
        ("mobile", "(12) 34", "91", "1234"),
        ("mobile", "", "91", ""),
        ("mobile", "nobody", "91", ""),
        ("mobile", "\N{DEVANAGARI DIGIT NINE}" * 2, "91", "99"),
        ("email", "  Tom@Mail.COM ", "91", "tom@mail.com"),
        ("external_id", " XYPZ0063 ", "91", "XYPZ0063"),
        ("card_number", "0012 ", "91", "0012"),
    ],
)
def test_examples(kind: str, typed: str, country_code: str, stored: str) -> None:
    assert normalise(kind, typed, country_code) == stored


def test_a_foreign_number_is_not_taken_for_one_at_home() -> None:
    assert normalise("mobile", "6581234567", "91") == "916581234567"
    assert normalise("mobile", "+6581234567", "91") == "+6581234567"
    assert normalise("mobile", "+6581234567", "65") == "6581234567"


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(KINDS), st.text(max_size=40), CODE)
@example("email", "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}A@B", "91")
@example("mobile", "+9988776655", "91")
@example("mobile", "+1 800 123 4567", "91")
@example("mobile", "tel:+919988776655;ext=7", "91")
def test_once_is_enough(kind: str, typed: str, country_code: str) -> None:
    once = normalise(kind, typed, country_code)
    assert normalise(kind, once, country_code) == once


@settings(max_examples=1000, deadline=None)
@given(mobiles())
def test_once_is_enough_for_mobiles(case: tuple[str, str]) -> None:
    typed, country_code = case
    once = normalise("mobile", typed, country_code)
    assert normalise("mobile", once, country_code) == once


@settings(max_examples=1000, deadline=None)
@given(mobiles() | st.tuples(DIGITS, CODE))
def test_the_short_cut_agrees_with_the_library(case: tuple[str, str]) -> None:
    typed, country_code = case
    digits = typed.lstrip("+").replace(" ", "")
    quick = identifiers._plainly_own_mobile(digits, country_code)  # noqa: SLF001 - the library is its oracle
    assert quick is None or quick == by_the_library(digits, country_code)


@given(st.text(), st.text(max_size=4))
def test_nothing_raises(typed: str, country_code: str) -> None:
    for kind in KINDS:
        assert isinstance(normalise(kind, typed, country_code), str)
