"""TLS and SASL at the brokers: the variables of the services, read and refused as they read and refuse them.

librdkafka passes over what its protocol does not use, and tells a broker that speaks TLS from one that is away by
nothing. So what does not fit is refused here, in one line that names the variable, before anything is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from towpath.errors import WrongSetting

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_PREFIX = "TOWPATH_KAFKA_"
_PROTOCOL = "security.protocol"
_FILES = {
    "SSL_CA_FILE": "ssl.ca.location",
    "SSL_CERT_FILE": "ssl.certificate.location",
    "SSL_KEY_FILE": "ssl.key.location",
}
_SASL = {
    "SASL_USERNAME": "sasl.username",
    "SASL_PASSWORD": "sasl.password",
    "SASL_PASSWORD_FILE": "sasl.password",
    "SASL_MECHANISM": "sasl.mechanism",
}


def configuration(environment: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Librdkafka's options for what the environment says of TLS and SASL; reads the files it names.

    `more` are options of librdkafka that go before these: its protocol is the one that the variables must fit, and
    nothing else of it is looked at. WrongSetting for what does not fit, OSError for a file that cannot be read.
    """
    names = ("SECURITY_PROTOCOL", *_FILES, *_SASL)
    given = {name: environment[_PREFIX + name] for name in names if environment.get(_PREFIX + name)}
    protocol = more.get(_PROTOCOL, "").upper() or given.get("SECURITY_PROTOCOL", "PLAINTEXT")
    is_ssl, is_sasl = protocol.endswith("SSL"), protocol.startswith("SASL")
    _refuse_unfit(given, _PROTOCOL if _PROTOCOL in more else f"{_PREFIX}SECURITY_PROTOCOL", protocol)
    found = {_PROTOCOL: protocol}
    if is_ssl:
        found |= {option: _readable(given[name]) for name, option in _FILES.items() if name in given}
        if "SSL_CERT_FILE" in given:
            found.setdefault(_FILES["SSL_KEY_FILE"], given["SSL_CERT_FILE"])  # both may stand in one file
    if is_sasl:
        found |= {_SASL["SASL_MECHANISM"]: MECHANISMS[0]}
        found |= {option: given[name] for name, option in _SASL.items() if name in given}
        if "SASL_PASSWORD_FILE" in given:
            found[_SASL["SASL_PASSWORD"]] = Path(given["SASL_PASSWORD_FILE"]).read_text(encoding="utf-8").strip()
    return {**found, **more}


def _refuse_unfit(given: Mapping[str, str], who: str, protocol: str) -> None:
    """Raise for the first of `given` that `protocol`, which `who` says, or another one makes useless."""
    spoken = given.get("SECURITY_PROTOCOL", "PLAINTEXT")
    if spoken not in PROTOCOLS:
        raise WrongSetting(f"{_PREFIX}SECURITY_PROTOCOL is {spoken}, not {PROTOCOLS}")
    mechanism = given.get("SASL_MECHANISM", MECHANISMS[0])
    if protocol.startswith("SASL") and mechanism not in MECHANISMS:
        raise WrongSetting(f"{_PREFIX}SASL_MECHANISM is {mechanism}, not one of {MECHANISMS}")
    if "SSL_KEY_FILE" in given and "SSL_CERT_FILE" not in given:
        raise WrongSetting(f"{_PREFIX}SSL_KEY_FILE is of no use without {_PREFIX}SSL_CERT_FILE")
    unused = () if protocol.endswith("SSL") else tuple(_FILES)
    unused += () if protocol.startswith("SASL") else tuple(_SASL)
    for name in unused:
        if name in given and (name, given[name]) != ("SASL_MECHANISM", MECHANISMS[0]):
            raise WrongSetting(f"{_PREFIX}{name} is of no use while {who} is {protocol}")


def _readable(path: str) -> str:
    Path(path).open("rb").close()
    return path
