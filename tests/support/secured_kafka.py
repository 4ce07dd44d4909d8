"""A broker behind TLS and SASL that denies what is not allowed: how services meet Kafka where others are, too.

localhost:port       SASL_SSL, our certificate asked for; every user is denied everything that no rule allows
127.0.0.1:other      plain, for the broker itself and for the hand of the test, which may do everything
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from cluster.components.kafka import LocalKafka
from cluster.components.process import kept_port
from tests.support.certificates import Authority

_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_ANSWER_SECONDS = 20.0
_ITERATIONS = 4096


class SecuredKafka(LocalKafka):
    """One such node in `folder`. Users are made by `add_users`, with a password each that follows from the name."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority = Authority(folder)
        self._port = kept_port(folder / "secured-port")
        self._broker = self.authority.sign("broker")
        self._client = self.authority.sign("client")

    @property
    def plain(self) -> str:
        """Where the hand of the test reaches it."""
        return f"127.0.0.1:{self.ports[1]}"

    def add_users(self, names: Iterable[str]) -> None:
        """Let users in, allowed nothing yet."""
        changes: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(
                name, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ITERATIONS), _password(name).encode()
            )
            for name in names
        ]
        admin = self._admin()
        for done in admin.alter_user_scram_credentials(changes).values():
            done.result(_ANSWER_SECONDS)

    def allow(self, commands: Iterable[str]) -> None:
        """What `kafka-acls.sh` would do with these command lines."""
        admin = self._admin()
        for done in admin.create_acls([rule for command in commands for rule in _rules(command)]).values():
            done.result(_ANSWER_SECONDS)

    def environ(self, user: str, folder: Path) -> dict[str, str]:
        """The settings of a process that is `user`, as the manual names them; `folder` takes the password's file."""
        password = folder / f"{user}-password"
        password.write_text(_password(user))
        return {
            "TOWPATH_KAFKA": f"localhost:{self._port}",
            "TOWPATH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "TOWPATH_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "TOWPATH_KAFKA_SASL_USERNAME": user,
            "TOWPATH_KAFKA_SASL_PASSWORD_FILE": str(password),
            "TOWPATH_KAFKA_SSL_CA_FILE": str(self.authority.certificate),
            "TOWPATH_KAFKA_SSL_CERT_FILE": str(self._client.certificate),
            "TOWPATH_KAFKA_SSL_KEY_FILE": str(self._client.key),
        }

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.plain})

    def _properties(self, node: int) -> Path:
        """Of two lines for one property the later one counts."""
        path = super()._properties(node)
        store = path.with_name("broker-store.pem")
        store.write_bytes(self._broker.key.read_bytes() + self._broker.certificate.read_bytes())
        said = dict(line.split("=", 1) for line in path.read_text().splitlines())
        secured = f"SASL_SSL://localhost:{self._port}"
        more = {
            "listeners": f"{said['listeners']},{secured}",
            "advertised.listeners": f"{said['advertised.listeners']},{secured}",
            "listener.security.protocol.map": f"{said['listener.security.protocol.map']},SASL_SSL:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": _SCRAM,
            "listener.name.sasl_ssl.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.certificate),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        with path.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in more.items())
        return path


def _password(user: str) -> str:
    return f"the password of {user}"


def _rules(command: str) -> list[AclBinding]:
    """Each operation on each resource that one command line names."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("program", choices=["kafka-acls.sh"])
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--resource-pattern-type", choices=["literal", "prefixed"], default="literal")
    for name in ("--operation", "--topic", "--group"):
        parser.add_argument(name, action="append", default=[])
    parser.add_argument("--cluster", action="store_true")
    given = parser.parse_args(shlex.split(command))
    named = [(ResourceType.TOPIC, name) for name in given.topic] + [(ResourceType.GROUP, name) for name in given.group]
    named += [(ResourceType.BROKER, "kafka-cluster")] * given.cluster
    pattern = ResourcePatternType[given.resource_pattern_type.upper()]
    return [
        AclBinding(kind, name, pattern, given.allow_principal, "*", _operation(said), AclPermissionType.ALLOW)
        for kind, name in named
        for said in given.operation
    ]


def _operation(said: str) -> AclOperation:
    return AclOperation["DESCRIBE_CONFIGS" if said == "DescribeConfigs" else said.upper()]
