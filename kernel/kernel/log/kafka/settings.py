"""Where the brokers are and how to reach them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.helpers import create_ssl_context

from kernel.errors import Permanent
from kernel.log.topics import GENERATION
from kernel.settings import text_or_file

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The cluster, who we are there, and for how long a call may try.

    `bootstrap` is `host:port,host:port`. `append_seconds` bounds how long an append is repeated before its outcome is
    given up; it outlasts the election of a leader and the restart of a broker. `request_seconds` bounds one answer, so
    that a silent broker is left in time. `poll_bytes` is what a broker gathers before it answers who follows it, for a
    second at most: with the default each record goes on at once, and many of them cost both sides least with more.
    """

    bootstrap: str
    prefix: str = "towpath"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ssl_ca_file: str = ""
    ssl_cert_file: str = ""
    ssl_key_file: str = ""
    request_seconds: float = 5.0
    append_seconds: float = 10.0
    poll_bytes: int = 1

    def __post_init__(self) -> None:
        if self.security_protocol not in SECURITY_PROTOCOLS:
            raise ValueError(f"TOWPATH_KAFKA_SECURITY_PROTOCOL is {self.security_protocol}, not {SECURITY_PROTOCOLS}")
        if self.security_protocol.startswith("SASL") and self.sasl_mechanism not in SASL_MECHANISMS:
            raise ValueError(f"TOWPATH_KAFKA_SASL_MECHANISM is {self.sasl_mechanism}, not one of {SASL_MECHANISMS}")
        if self.ssl_key_file and not self.ssl_cert_file:
            raise ValueError("TOWPATH_KAFKA_SSL_KEY_FILE is of no use without TOWPATH_KAFKA_SSL_CERT_FILE")
        if unused := next(self._unused(), ""):
            protocol = f"TOWPATH_KAFKA_SECURITY_PROTOCOL is {self.security_protocol}"
            raise ValueError(f"TOWPATH_KAFKA_{unused} is of no use while {protocol}")
        if not self.addresses():
            raise ValueError("TOWPATH_KAFKA names no broker")

    def _unused(self) -> Iterator[str]:
        """What was set for a protocol that is not spoken: whoever set it believes that it is."""
        if not self.security_protocol.endswith("SSL"):
            files = {"SSL_CA_FILE": self.ssl_ca_file, "SSL_CERT_FILE": self.ssl_cert_file}
            yield from (name for name, path in files.items() if path)
        if not self.security_protocol.startswith("SASL"):
            who = {"SASL_USERNAME": self.sasl_username, "SASL_PASSWORD": self.sasl_password}
            yield from (name for name, text in who.items() if text)
            if self.sasl_mechanism != "PLAIN":
                yield "SASL_MECHANISM"

    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Hosts and ports of `bootstrap`. `ValueError` for one without a port."""
        found = []
        for address in filter(None, (part.strip() for part in self.bootstrap.split(","))):
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"TOWPATH_KAFKA: {address} is not host:port")
            found.append((host.strip("[]"), int(port)))
        return tuple(found)

    def broker_topic(self, topic: str) -> str:
        """The name of `topic` at the broker; a later generation may have more partitions (design 3.5)."""
        return f"{self.prefix}.{topic}.{GENERATION}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """What TLS needs, None without TLS. Reads the files; `Permanent("setting_malformed")` for one that is wrong."""
        if not self.security_protocol.endswith("SSL"):
            return None
        with _told("TOWPATH_KAFKA_SSL_CA_FILE", self.ssl_ca_file):
            context: ssl.SSLContext = create_ssl_context(cafile=self.ssl_ca_file or None)
        if self.ssl_cert_file:
            if self.ssl_key_file:
                with _told("TOWPATH_KAFKA_SSL_KEY_FILE", self.ssl_key_file):
                    Path(self.ssl_key_file).open("rb").close()
            with _told("TOWPATH_KAFKA_SSL_CERT_FILE", self.ssl_cert_file):
                # A key under a password is refused: without one given here, OpenSSL asks whoever sits at a terminal.
                context.load_cert_chain(self.ssl_cert_file, self.ssl_key_file or None, password="")
        return context


@contextmanager
def _told(name: str, path: str) -> Iterator[None]:
    """What is wrong with the file `path`, in words."""
    try:
        yield
    except ssl.SSLError as error:
        wrong = "the certificate and its key do not fit" if "KEY_VALUES_MISMATCH" in str(error) else "no PEM that opens"
        raise Permanent("setting_malformed", f"{name}: {path} cannot be used: {wrong}") from None
    except OSError as error:
        raise Permanent("setting_malformed", f"{name}: {path} cannot be read: {error.strerror}") from None


def kafka_settings(environ: Mapping[str, str]) -> KafkaSettings:
    """Settings from TOWPATH_KAFKA and its companions; the password stands in TOWPATH_KAFKA_SASL_PASSWORD_FILE.

    `Permanent("setting_malformed")` says what is wrong.
    """
    try:
        return _settings(environ)
    except ValueError as error:
        raise Permanent("setting_malformed", str(error)) from None


def _settings(environ: Mapping[str, str]) -> KafkaSettings:
    return KafkaSettings(
        bootstrap=environ.get("TOWPATH_KAFKA", ""),
        prefix=environ.get("TOWPATH_TOPIC_PREFIX", "towpath"),
        security_protocol=environ.get("TOWPATH_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
        sasl_mechanism=environ.get("TOWPATH_KAFKA_SASL_MECHANISM", "PLAIN"),
        sasl_username=environ.get("TOWPATH_KAFKA_SASL_USERNAME", ""),
        sasl_password=text_or_file("TOWPATH_KAFKA_SASL_PASSWORD", environ),
        ssl_ca_file=environ.get("TOWPATH_KAFKA_SSL_CA_FILE", ""),
        ssl_cert_file=environ.get("TOWPATH_KAFKA_SSL_CERT_FILE", ""),
        ssl_key_file=environ.get("TOWPATH_KAFKA_SSL_KEY_FILE", ""),
    )
