"""The secrets of a cluster, made once: a folder for each service, so that each can be given its own and no other.

api-gateway      pepper, signing-keys, store-key
artifact-store   gateway-key, runner-key, keyring.json (made with the tables)
browser-runner   store-key
postgres         password, url            only where the servers are containers, which are given
s3               access-key, secret-key   theirs before they start
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from embedded.folder import kept_bytes, kept_text
from kernel.ids import Entropy


@dataclass(frozen=True, slots=True)
class Keys:
    """The folder of all of them."""

    folder: Path

    def of(self, service: str, name: str) -> Path:
        """The file of one secret."""
        return self.folder / service / name

    @property
    def keyring(self) -> Path:
        """What wraps the keys of the vault; the artifact store's."""
        return self.of("artifact-store", "keyring.json")

    def make(self, entropy: Entropy) -> bytes:
        """Make what is missing of the services' secrets; the pepper of API keys. Blocks."""
        self._make_store_key("gateway-key", "api-gateway", entropy)
        self._make_store_key("runner-key", "browser-runner", entropy)
        kept_text(self.of("api-gateway", "signing-keys"), lambda: f"k1 {entropy.bytes(32).hex()}")
        return kept_bytes(self.of("api-gateway", "pepper"), 32, entropy)

    def _make_store_key(self, name: str, service: str, entropy: Entropy) -> None:
        """One that the artifact store knows by `name`, and `service` proves itself by."""
        key = kept_text(self.of("artifact-store", name), lambda: entropy.bytes(32).hex())
        kept_text(self.of(service, "store-key"), lambda: key)

    def make_for_servers(self, entropy: Entropy, postgres: str) -> None:
        """Make what is missing of the secrets of PostgreSQL, at `host:port/database`, and of the S3 server. Blocks."""
        password = kept_text(self.of("postgres", "password"), lambda: entropy.bytes(24).hex())
        kept_text(self.of("postgres", "url"), lambda: f"postgresql://towpath:{quote(password, safe='')}@{postgres}")
        kept_text(self.of("s3", "access-key"), lambda: f"towpath{entropy.bytes(6).hex()}")
        kept_text(self.of("s3", "secret-key"), lambda: entropy.bytes(24).hex())
