"""The one form in which a member's identifier is stored and looked up.

Organisation files and requests both go through `normalise`, so that what one writes the other finds.
It never raises, and normalising twice is normalising once.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Final, NamedTuple

import phonenumbers
from phonenumbers import PhoneMetadata

MOBILE: Final = "mobile"
EMAIL: Final = "email"
EXTERNAL_ID: Final = "external_id"
CARD_NUMBER: Final = "card_number"
KINDS: Final = (MOBILE, EMAIL, EXTERNAL_ID, CARD_NUMBER)

_PLUS_SIGNS = ("+", "\N{FULLWIDTH PLUS SIGN}")
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_COUNTRY_CODE = re.compile(r"[0-9]{1,3}", re.ASCII)
_NEVER = re.compile(r"(?!)")


class _Plan(NamedTuple):
    """What the number plan of a country calling code says, as far as the short cut needs it."""

    region: str
    mobile: re.Pattern[str]
    national: re.Pattern[str]
    prefixes: re.Pattern[str]


def normalise(kind: str, value: str, country_code: str) -> str:
    """The stored form of an identifier as somebody typed it; "" when nothing usable is in it.

    A mobile becomes its E.164 digits without `+`; one that is no valid number stays the digits as typed.
    The `+` is kept where the digits alone would be read as another number of the organisation's own
    country: +65 8123 4567 (Singapore) and 6581234567 (India) are two people.
    """
    if kind == MOBILE:
        return _mobile(value, country_code)
    text = value.strip()
    return _lower(text) if kind == EMAIL else text


def _lower(text: str) -> str:
    # For some letters lower-casing once leaves something that lower-cases further, or strips.
    while (lowered := text.lower().strip()) != text:
        text = lowered
    return text


@lru_cache(maxsize=131_072)
def _mobile(value: str, country_code: str) -> str:
    text = value.strip()
    if _DIGITS.fullmatch(text):
        known = _plainly_own_mobile(text, country_code)
        if known is not None:
            return known
    region = _plan(country_code).region
    number = _valid(text, region)
    if number is not None:
        digits = number
    elif text.startswith(_PLUS_SIGNS):
        digits = _digits(text)
    else:
        return _digits(text)
    return digits if (_valid(digits, region) or digits) == digits else f"+{digits}"


def _plainly_own_mobile(digits: str, country_code: str) -> str | None:
    """The answer for a mobile of the organisation's own country, at a tenth of the cost, or None.

    Right because nothing that the library would strip from the front is there, and because a number that
    matches the country's own mobile pattern is valid. A test compares it with the library for every country.
    """
    plan = _plan(country_code)
    if plan.national.fullmatch(digits):
        national = digits
    elif digits.startswith(country_code):
        national = digits[len(country_code) :]
    else:
        return None
    whole = country_code + national
    if not (plan.mobile.fullmatch(national) and plan.national.fullmatch(national)):
        return None
    if plan.prefixes.match(national) or plan.prefixes.match(whole) or plan.national.fullmatch(whole):
        return None
    return whole


@cache
def _plan(country_code: str) -> _Plan:
    code = int(country_code) if _COUNTRY_CODE.fullmatch(country_code) else 0
    region = phonenumbers.region_code_for_country_code(code)
    data = PhoneMetadata.metadata_for_region(region, None)
    if data is None or data.leading_digits or not (data.mobile and data.mobile.national_number_pattern):
        return _Plan(region, _NEVER, _NEVER, _NEVER)
    general = data.general_desc.national_number_pattern if data.general_desc else None
    prefixes = [data.national_prefix_for_parsing, data.international_prefix]
    return _Plan(
        region,
        re.compile(data.mobile.national_number_pattern),
        re.compile(general or "(?!)"),
        re.compile("|".join(f"(?:{prefix})" for prefix in prefixes if prefix) or "(?!)"),
    )


def _valid(text: str, region: str) -> str | None:
    """The E.164 digits of a valid number, else None."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]


def _digits(text: str) -> str:
    """The decimal digits in a text, of whatever script, as ASCII."""
    return "".join(str(int(character)) for character in text if character.isdecimal())
