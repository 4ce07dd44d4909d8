"""TLS and SASL of `towpath events tail`: refused as the services refuse them, before a broker is asked."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from kernel.errors import Permanent
from kernel.log.kafka.settings import kafka_settings
from tests.support.certificates import Authority
from towpath.cli import cli
from towpath.commands.shared import App
from towpath.errors import WrongSetting
from towpath.event_log.security import configuration

PROTOCOLS = ("", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", "ssl")
MECHANISMS = ("", "PLAIN", "SCRAM-SHA-512", "OAUTHBEARER")


def named(**settings: str) -> dict[str, str]:
    return {f"TOWPATH_KAFKA_{name}": value for name, value in settings.items() if value}


def refusal_of_services(environment: dict[str, str]) -> str:
    try:
        kafka_settings({"TOWPATH_KAFKA": "kafka:9093", **environment})
    except Permanent as refused:
        return refused.message
    return ""


def refusal_of_tail(environment: dict[str, str]) -> str:
    try:
        configuration(environment, {})
    except WrongSetting as refused:
        return str(refused)
    return ""


def test_services_and_the_command_line_refuse_the_same_settings_in_the_same_words(tmp_path: Path) -> None:
    file = tmp_path / "one.pem"
    file.touch()
    optional = ("SSL_CA_FILE", "SSL_CERT_FILE", "SSL_KEY_FILE", "SASL_USERNAME", "SASL_PASSWORD")
    for protocol, mechanism, *values in product(PROTOCOLS, MECHANISMS, *[("", str(file))] * len(optional)):
        chosen = dict(zip(optional, values, strict=True))
        environment = named(SECURITY_PROTOCOL=protocol, SASL_MECHANISM=mechanism, **chosen)
        assert refusal_of_tail(environment) == refusal_of_services(environment), environment


def test_a_password_in_a_file_is_refused_as_one_in_the_variable_is(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    environment = named(SASL_PASSWORD_FILE=str(password))
    line = "TOWPATH_KAFKA_SASL_PASSWORD_FILE is of no use while TOWPATH_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"
    assert refusal_of_tail(environment) == line
    found = configuration(environment | named(SECURITY_PROTOCOL="SASL_PLAINTEXT", SASL_USERNAME="ada"), {})
    assert found == {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "ada",
        "sasl.password": "secret",
    }


def test_options_of_the_library_go_before_and_tell_the_protocol_that_the_rest_must_fit(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    environment = named(SSL_CA_FILE=str(file))
    found = configuration(environment, {"security.protocol": "ssl", "client.id": "me"})
    assert found == {"security.protocol": "ssl", "client.id": "me", "ssl.ca.location": str(file)}
    with pytest.raises(WrongSetting, match=r"SSL_CA_FILE is of no use while security\.protocol is PLAINTEXT"):
        configuration(environment | named(SECURITY_PROTOCOL="SSL"), {"security.protocol": "plaintext"})


def refused(*options: str, **settings: str) -> str:
    asking = ["events", "tail", "--kafka", "127.0.0.1:1", "--no-follow", *options]
    result = CliRunner().invoke(cli, asking, obj=App(environment=named(**settings)))
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


def test_what_does_not_fit_is_one_line_that_names_it(tmp_path: Path) -> None:
    assert refused(SSL_CA_FILE="/etc/ca.pem") == (
        "Error: TOWPATH_KAFKA_SSL_CA_FILE is of no use while TOWPATH_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"
    )
    gone = tmp_path / "gone.pem"
    assert refused(SECURITY_PROTOCOL="SSL", SSL_CA_FILE=str(gone)) == f"Error: {gone}: No such file or directory"


def test_what_the_library_refuses_is_one_line(tmp_path: Path) -> None:
    letter = tmp_path / "letter.pem"
    letter.write_text("a letter")
    assert "ssl.ca.location" in refused(SECURITY_PROTOCOL="SSL", SSL_CA_FILE=str(letter))
    authority = Authority(tmp_path)
    pair, other = authority.sign("subscriber"), authority.sign("gateway")
    wrong_key = {"SSL_CERT_FILE": str(pair.certificate), "SSL_KEY_FILE": str(other.key)}
    assert "ssl.key.location" in refused(SECURITY_PROTOCOL="SSL", **wrong_key)
    assert "nonsense" in refused("-X", "nonsense=1")


def test_certificate_and_key_may_stand_in_one_file(tmp_path: Path) -> None:
    pair = Authority(tmp_path).sign("subscriber")
    both = tmp_path / "both.pem"
    both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    found = configuration(named(SECURITY_PROTOCOL="SSL", SSL_CERT_FILE=str(both)), {})
    assert found["ssl.key.location"] == found["ssl.certificate.location"] == str(both)
