"""Is this installation in order? Questions that are asked on demand, each answered by one finding.

What every gateway can ask stands here; a composition root adds what only it knows (`Services.checks`). A question that
is not answered in time, or whose part is away, is itself a finding: the whole always answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from api_gateway.migrations import migrations
from api_gateway.projecting import Projector
from kernel.domain.ids import OrganizationId
from kernel.domain.values import Pool
from kernel.errors import TowpathError
from kernel.log.topics import TOPICS, Topic
from kernel.sealing import Sealer
from kernel.sql.port import migrate
from kernel.store.port import GatewayOpener, PutHeader

if TYPE_CHECKING:
    from api_gateway.gateway import Services

CHECK_SECONDS = 10.0
LAG_RECORDS_MAX = 10_000
PEPPER_BYTES_MIN = 32
KEY_DAYS_MAX = 365
"""How old a key may become before somebody should know; the alert on the keyring has the same bound."""
DAY_MS = 24 * 60 * 60 * 1000
_PROBE_BYTES = 1024
_READ_TOPICS = (Topic.JOB_RUNS, Topic.DEFINITIONS, Topic.DISPATCH)
"""What a gateway may read: an access list need not let it see the ledgers of others."""


class Verdict(StrEnum):
    """How a question was answered."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should know."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. `advice` says what to do; empty when it is in order."""

    check: str
    verdict: Verdict
    message: str
    advice: str = ""


Check = Callable[[], Awaitable[Finding]]


def ok(check: str, message: str) -> Finding:
    """In order."""
    return Finding(check, Verdict.OK, message)


def warning(check: str, message: str, advice: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(check, Verdict.WARNING, message, advice)


def failed(check: str, message: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, Verdict.FAILED, message, advice)


async def examine(services: Services, organization: OrganizationId) -> list[Finding]:
    """Ask everything at once. Leaves nothing behind but one unnamed kilobyte that is swept within a day."""
    doctor = Doctor(services, organization)
    own: Sequence[tuple[str, Check]] = (
        ("database", doctor.database),
        ("schema", doctor.schema),
        ("log", doctor.log),
        ("read models", doctor.read_models),
        ("storage", doctor.storage),
        ("vault", doctor.vault),
        ("clock", doctor.clock),
        ("secrets", doctor.secrets),
        ("API keys", doctor.api_keys),
        ("public address", doctor.address),
        ("limits", doctor.limits),
        ("runners", doctor.runners),
        ("egress", doctor.egress),
    )
    return list(await asyncio.gather(*(_asked(name, check) for name, check in (*own, *services.checks))))


async def _asked(name: str, check: Check) -> Finding:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return failed(name, f"no answer in {CHECK_SECONDS:.0f} s", "look at the load and at the log of the platform")
    except TowpathError as error:
        return failed(name, str(error), "see the log of the platform; the request id of this call stands beside it")


@dataclass(frozen=True, slots=True)
class Doctor:
    """What any gateway can ask of its parts."""

    services: Services
    organization: OrganizationId

    async def database(self) -> Finding:
        """Does the database answer, and how fast?"""
        begun = self.services.clock.boot_ms()
        await self.services.db.fetch_one("SELECT 1")
        return ok("database", f"{self.services.db.dialect} answers in {self.services.clock.boot_ms() - begun:.0f} ms")

    async def schema(self) -> Finding:
        """Are the tables those of this version?"""
        db = self.services.db
        missing = await migrate(db, migrations(db.dialect), check=True)
        if missing:
            names = ", ".join(f"{one.number} {one.name}" for one in missing)
            return failed("schema", f"not migrated: {names}", "restart the platform, which migrates at its start")
        return ok("schema", "the tables are those of this version")

    async def log(self) -> Finding:
        """Can every partition of every topic be read?"""
        log = self.services.log
        places = [(topic, part) for topic in TOPICS for part in range(log.partitions(topic))]
        ends = [await log.end_offset(topic, part) for topic, part in places]
        return ok("log", f"{len(TOPICS)} topics, {len(places)} partitions, {sum(ends):,} records")

    async def read_models(self) -> Finding:
        """Do the read models keep up with the public topics?"""
        services = self.services
        behind = await Projector(services.log, services.db, services.waiters, services.clock).lag()
        if behind > LAG_RECORDS_MAX:
            advice = "reads are late by that much; look for an overloaded machine, or a projection that fails"
            return warning("read models", f"{behind:,} records behind", advice)
        return ok("read models", "they keep up" if behind < 2 else f"{behind:,} records behind")

    async def storage(self) -> Finding:
        """Do bytes come back as they went?"""
        services = self.services
        subject = await services.vault.subject_for(self.organization)
        sent = services.entropy.bytes(_PROBE_BYTES)
        staged = await services.store.put_bytes(sent, PutHeader(subject, GatewayOpener(self.organization)))
        if await services.store.get_bytes(staged.sha256) != sent:
            return failed("storage", "other bytes came back", "the disk or the store damages data: stop and restore")
        return ok("storage", "bytes come back as they went")

    async def vault(self) -> Finding:
        """Can values be sealed and opened?"""
        services, opener = self.services, GatewayOpener(self.organization)
        subject = await services.vault.subject_for(self.organization)
        sealer = Sealer(services.keys, services.store, services.entropy, opener)
        text = services.entropy.uuid()
        if await sealer.open_text(await sealer.seal_text(subject, text)) != text:
            return failed("vault", "a sealed value opened as another one", "restore vault and keyring from a backup")
        return ok("vault", "values are sealed and opened")

    async def clock(self) -> Finding:
        """Does the clock go on from where the log stands?"""
        log, now_ms = self.services.log, self.services.clock.now_ms()
        newest = 0
        for topic in _READ_TOPICS:
            for part in range(log.partitions(topic)):
                end = await log.end_offset(topic, part)
                last = await log.read(topic, part, end - 1, max_records=1) if end else []
                newest = max([newest, *(stored.appended_ms for stored in last)])
        if newest > now_ms + 1000:
            ahead = (newest - now_ms) / 1000
            advice = "the clock was set back: let it be kept by NTP; nothing is lost, timers wait"
            return warning("clock", f"the log is {ahead:.0f} s ahead of the clock", advice)
        return ok("clock", "it goes on from where the log stands")

    async def secrets(self) -> Finding:
        """Are the server's own secrets no defaults?"""
        settings = self.services.settings
        kept = {"pepper": settings.pepper, **settings.signing_keys.keys}
        weak = [name for name, value in kept.items() if len(value) < PEPPER_BYTES_MIN or len(set(value)) < 8]
        if weak:
            return failed("secrets", f"too weak: {', '.join(weak)}", "replace them by 32 random bytes each")
        return ok("secrets", "none is a default or too short")

    async def api_keys(self) -> Finding:
        """How old are the keys that callers of the organization have?"""
        now_ms = self.services.clock.now_ms()
        rows = await self.services.db.fetch_all(
            "SELECT public_id, created_ms FROM api_keys WHERE organization_id = ? AND revoked_ms = 0"
            " AND (expires_ms = 0 OR expires_ms > ?) ORDER BY created_ms",
            (self.organization, now_ms),
        )
        days = {public_id: (now_ms - created_ms) // DAY_MS for public_id, created_ms in rows}
        if old := [public_id for public_id, age in days.items() if age > KEY_DAYS_MAX]:
            told = f"{len(old)} of {len(days)} older than a year, the oldest {old[0]} with {days[old[0]]} days"
            return warning("API keys", told, "make new ones, hand them out, and revoke those")
        return ok("API keys", f"{len(days)} valid, none older than a year")

    async def address(self) -> Finding:
        """Are keys and signed URLs sent over TLS where others can listen?"""
        url = urlsplit(self.services.settings.public_url)
        if url.scheme == "https" or _is_loopback(url.hostname or ""):
            return ok("public address", f"callers reach it at {url.geturl()}")
        advice = "put it behind TLS and say so in its public address: API keys travel in the clear"
        return warning("public address", f"callers reach it at {url.geturl()}, unencrypted", advice)

    async def limits(self) -> Finding:
        """Are there limits to what one caller may take?"""
        settings = self.services.settings
        if settings.rate_per_minute and settings.address_rate_per_minute:
            return ok("limits", f"{settings.rate_per_minute} calls a minute and key")
        return warning("limits", "rate limits are lifted", "set TOWPATH_RATE_PER_MINUTE unless this is a test")

    async def runners(self) -> Finding:
        """Is somebody there to do the work?"""
        services = self.services
        pools = {pool: services.slots.of(pool, services.clock.boot_ms()) for pool in Pool}
        told = ", ".join(f"{pool}: {of.runners} with {of.slots} slots" for pool, of in pools.items() if of)
        if any(of is None for of in pools.values()):
            return ok("runners", f"{told or 'none'} so far; the first ones are heard within ten seconds")
        if missing := [pool.value for pool, of in pools.items() if of and not of.runners]:
            advice = "start a runner with slots of that kind; runs that need one wait, none is lost"
            return warning("runners", f"none of kind {' or '.join(missing)}", advice)
        return ok("runners", told)

    async def egress(self) -> Finding:
        """May workflows reach hosts that are not public?"""
        hosts = self.services.settings.open_hosts
        if not hosts:
            return ok("egress", "workflows reach public addresses only")
        advice = "right for a trial and for tests; elsewhere leave TOWPATH_EGRESS_ALLOW empty"
        return warning("egress", f"workflows may reach {', '.join(sorted(hosts))}", advice)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
