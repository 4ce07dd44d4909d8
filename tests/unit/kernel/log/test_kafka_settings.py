"""Settings of the brokers: what is wrong with one is said in one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from kernel.errors import Permanent
from kernel.log.kafka.settings import kafka_settings
from tests.support.certificates import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.sign("scheduler")


def context_of(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> object:
    files = {"CA": ca, "CERT": certificate, "KEY": key}
    environ = {f"TOWPATH_KAFKA_SSL_{name}_FILE": str(path) for name, path in files.items() if path is not None}
    settings = kafka_settings({"TOWPATH_KAFKA": "kafka:9093", "TOWPATH_KAFKA_SECURITY_PROTOCOL": "SSL", **environ})
    return settings.ssl_context()


def refusal(**files: Path) -> str:
    with pytest.raises(Permanent, match="setting_malformed") as refused:
        context_of(**files)
    return refused.value.message


def test_certificates_are_taken_with_and_without_one_of_our_own(authority: Authority, pair: Pair) -> None:
    assert context_of() is not None
    assert context_of(authority.certificate) is not None
    assert context_of(authority.certificate, pair.certificate, pair.key) is not None


def test_certificate_and_key_may_stand_in_one_file(tmp_path: Path, pair: Pair) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    assert context_of(certificate=both) is not None


def test_a_file_that_is_missing_is_named_with_its_variable(tmp_path: Path, pair: Pair) -> None:
    gone = tmp_path / "gone.pem"
    assert refusal(ca=gone) == f"TOWPATH_KAFKA_SSL_CA_FILE: {gone} cannot be read: No such file or directory"
    assert refusal(certificate=gone).startswith(f"TOWPATH_KAFKA_SSL_CERT_FILE: {gone} cannot be read")
    assert refusal(certificate=gone, key=pair.key).startswith(f"TOWPATH_KAFKA_SSL_CERT_FILE: {gone} cannot be read")
    assert refusal(certificate=pair.certificate, key=gone).startswith(f"TOWPATH_KAFKA_SSL_KEY_FILE: {gone}")


def test_a_file_of_another_kind_is_named_with_its_variable(tmp_path: Path, pair: Pair) -> None:
    text = tmp_path / "text.pem"
    text.write_text("a letter")
    assert refusal(ca=text) == f"TOWPATH_KAFKA_SSL_CA_FILE: {text} cannot be used: no PEM that opens"
    assert refusal(certificate=text, key=pair.key).startswith("TOWPATH_KAFKA_SSL_CERT_FILE")


def test_a_key_that_belongs_to_another_certificate_is_refused(authority: Authority, pair: Pair) -> None:
    other = authority.sign("gateway")
    assert refusal(certificate=pair.certificate, key=other.key).endswith("the certificate and its key do not fit")


def test_a_key_without_its_certificate_is_not_passed_over(pair: Pair) -> None:
    assert refusal(key=pair.key) == "TOWPATH_KAFKA_SSL_KEY_FILE is of no use without TOWPATH_KAFKA_SSL_CERT_FILE"


def test_a_key_under_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path, pair: Pair) -> None:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert refusal(certificate=pair.certificate, key=locked).startswith("TOWPATH_KAFKA_SSL_CERT_FILE")


@pytest.mark.parametrize(
    ("protocol", "name", "value"),
    [
        ("PLAINTEXT", "SSL_CA_FILE", "/etc/ca.pem"),
        ("SASL_PLAINTEXT", "SSL_CERT_FILE", "/etc/scheduler.pem"),
        ("PLAINTEXT", "SASL_USERNAME", "scheduler"),
        ("SSL", "SASL_PASSWORD", "secret"),
        ("SSL", "SASL_MECHANISM", "SCRAM-SHA-512"),
    ],
)
def test_what_the_protocol_does_not_use_is_refused_and_not_passed_over(protocol: str, name: str, value: str) -> None:
    environ = {"TOWPATH_KAFKA": "kafka:9093", f"TOWPATH_KAFKA_{name}": value}
    environ |= {} if protocol == "PLAINTEXT" else {"TOWPATH_KAFKA_SECURITY_PROTOCOL": protocol}
    with pytest.raises(Permanent, match="setting_malformed") as refused:
        kafka_settings(environ)
    line = f"TOWPATH_KAFKA_{name} is of no use while TOWPATH_KAFKA_SECURITY_PROTOCOL is {protocol}"
    assert refused.value.message == line


def test_each_protocol_takes_what_it_uses(pair: Pair, authority: Authority) -> None:
    files = {
        "SSL_CA_FILE": str(authority.certificate),
        "SSL_CERT_FILE": str(pair.certificate),
        "SSL_KEY_FILE": str(pair.key),
    }
    who = {"SASL_MECHANISM": "SCRAM-SHA-256", "SASL_USERNAME": "scheduler", "SASL_PASSWORD": "secret"}
    for protocol, used in {"SSL": files, "SASL_PLAINTEXT": who, "SASL_SSL": {**files, **who}}.items():
        named = {f"TOWPATH_KAFKA_{name}": value for name, value in used.items()}
        environ = {"TOWPATH_KAFKA": "kafka:9093", "TOWPATH_KAFKA_SECURITY_PROTOCOL": protocol, **named}
        assert kafka_settings(environ).security_protocol == protocol
