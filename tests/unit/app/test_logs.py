"""Logs are JSON lines, and secrets do not get into them."""

import io
import json
import logging

import pytest

from perennial.app.logs import JsonFormatter, redacted, worth_telling


@pytest.mark.parametrize(
    "text",
    [
        "cannot fetch https://bob:s3cret@example.com/x.git",
        "cannot fetch https://s3cret@example.com/x.git",
        "sent Authorization: Bearer s3cret.abc.def",
        "header {'Authorization': 'Basic s3cretabc='}",
        "password=s3cret&x=1",
        'body {"token": "s3cret"}',
        "secret: 's3cret value'",
        "AWS api_key=s3cret, region=x",
        "-----BEGIN OPENSSH PRIVATE KEY-----\ns3cret\n-----END OPENSSH PRIVATE KEY-----",
    ],
)
def test_secrets_are_taken_out(text: str) -> None:
    assert "s3cret" not in redacted(text)
    assert "***" in redacted(text)


@pytest.mark.parametrize(
    "text", ["fetched https://example.com/x.git at main@sha1:abc", "Secret git-credentials does not exist", "10:00:00"]
)
def test_plain_words_stay(text: str) -> None:
    assert redacted(text) == text


def test_a_line_is_json_with_facts_and_a_redacted_traceback() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("password=s3cret")
    except ValueError:
        logger.exception("weight set to %d", 25, extra={"facts": {"revision": "abc", "generation": 3}})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["message"]) == ("error", "weight set to 25")
    assert (line["revision"], line["generation"]) == ("abc", 3)
    assert "ValueError" in line["error"]
    assert "s3cret" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message", "told"),
    [
        ("kopf._cogs.clients.watching", "Request attempt #3 failed; will retry: %s", False),
        ("kopf._cogs.clients.watching", "Request attempt #9 failed; escalating: %s", True),
        ("perennial.runtime.lease", "it will retry", True),
    ],
)
def test_each_try_of_kopf_is_not_worth_a_line(name: str, message: str, told: bool) -> None:
    assert worth_telling(logging.LogRecord(name, logging.ERROR, "", 0, message, (), None)) is told
