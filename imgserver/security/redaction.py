"""Secrets in texts for people: the log, the audit log, messages of commands and of health checks.

URLs carry them: a password before the host, a signature of ours, a token in the query. One function masks them all,
also in a URL that is percent-encoded, as often as it may be, within another URL, and in a sentence that contains a URL.
"""

import re
from base64 import urlsafe_b64decode
from urllib.parse import unquote

MASK = "..."

# A percent sign that may itself be encoded, several times.
_PERCENT = "%(?:25)*"
_SECRET_NAME = re.compile(
    r"key|token|secret|pass|pwd|auth|signature|credential|session|jwt|bearer|(?:^|[^a-z])(?:sig|code|otp|pin)(?:$|[^a-z])",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"/s--[^/\s]*--/")
_BASE64 = re.compile(r"\bb64/([A-Za-z0-9_-]+)")
_BEARER = re.compile(r"\b(Bearer|Basic)(\s+)[^\s\"',;]+", re.IGNORECASE)
# The user and the password after `://`, up to the last at sign before the next slash, question mark or number sign.
_USER = re.compile(
    rf"""((?::|{_PERCENT}3A)(?:/|{_PERCENT}2F){{1,2}})"""
    rf"""(?:(?!{_PERCENT}(?:2F|3F|23))[^/?\#\s"'<>])+(@|{_PERCENT}40)""",
    re.IGNORECASE,
)
_PAIR = re.compile(r"""([?&;])([^=&;?\#\s"'<>]*)=([^&\#\s"'<>]*)""")
# The same in a URL that is encoded within another one: its value ends where the pair or the outer value ends.
_ENCODED_PAIR = re.compile(
    rf"""({_PERCENT}(?:3F|26|3B))((?:(?!{_PERCENT}(?:3F|26|3B|3D))[^=&?\#\s"'<>])*)({_PERCENT}3D)"""
    rf"""((?:(?!{_PERCENT}(?:26|23))[^&?\#/\s"'<>])*)""",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text without the secrets of the URLs in it; the text itself if it has none."""
    if "b64/" in text:
        text = _BASE64.sub(_masked_base64, text)
    if "/s--" in text:
        text = _SIGNATURE.sub(f"/s--{MASK}--/", text)
    if "@" in text or "%" in text:
        text = _USER.sub(rf"\1{MASK}\2", text)
    if "=" in text or "%" in text:
        text = _PAIR.sub(_masked_pair, text)
        text = _ENCODED_PAIR.sub(_masked_encoded_pair, text)
    return _BEARER.sub(rf"\1\2{MASK}", text) if " " in text else text


def redact_all(value: object) -> object:
    """The value with every text in it redacted: in lists, tuples and dictionaries too."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redact_all(one) for name, one in value.items()}
    return [redact_all(one) for one in value] if isinstance(value, list | tuple) else value


def _masked_base64(found: re.Match[str]) -> str:
    """The source of a URL in the form `b64/...`: masked whole if it has a secret."""
    digits = found[1]
    try:
        source = urlsafe_b64decode(digits + "=" * (-len(digits) % 4)).decode(errors="replace")
    except ValueError:
        source = ""
    return f"b64/{MASK}" if redact(source) != source else found[0]


def _masked_pair(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={MASK}" if _is_secret(found[2]) and found[3] else found[0]


def _masked_encoded_pair(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{found[3]}{MASK}" if _is_secret(found[2]) and found[4] else found[0]


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(unquote(unquote(name)) if "%" in name else name) is not None
