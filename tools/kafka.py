"""Brings Apache Kafka's jars for `make up` and tests into `.tools/kafka`; prints the folder. Standard library only.

    python3 -m tools.kafka          bring what is missing
    python3 -m tools.kafka --find   exit 1 when something is missing

`requirements/kafka.lock` names each jar as `group:artifact:version sha256`, and each is checked on every call. Maven
fetches them where it is installed, as it knows how this machine reaches a repository. Otherwise they are fetched from
`TOWPATH_MAVEN_REPOSITORY`, or the mirror that Maven's settings name, or Maven Central.

A new version: change `requirements/kafka.lock` by `python3 -m tools.kafka --lock VERSION`, which needs Maven.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tools.packages import install_package

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "kafka.lock"
HOME = ROOT / ".tools" / "kafka"
CENTRAL = "https://repo1.maven.org/maven2"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
FETCH_SECONDS = 60
ANYTHING = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
NO_JAVA = """kafka: Apache Kafka needs Java 17 or newer, and there is no `java` here.
  Debian, Ubuntu:  sudo apt-get install default-jre-headless"""


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked file of a Maven repository."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name, the same in a repository and here."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Where a repository of the standard layout has it."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"


def say(text: str) -> None:
    """One line of progress."""
    print(f"kafka: {text}", file=sys.stderr, flush=True)


def locked() -> list[Jar]:
    """What the lock names, in its order."""
    rows = (line.replace(":", " ").split() for line in LOCK.read_text().splitlines() if line)
    return [Jar(group, artifact, number, sha256) for group, artifact, number, sha256 in rows]


def version(jars: Sequence[Jar]) -> str:
    """The broker's version."""
    return next(jar.version for jar in jars if jar.artifact.startswith("kafka_"))


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; of no file at all: the empty text."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def is_whole(folder: Path, jars: Sequence[Jar]) -> bool:
    """Whether `folder` holds every jar with its locked bytes."""
    return all(digest(folder / jar.name) == jar.sha256 for jar in jars)


def project(dependencies: Sequence[str]) -> str:
    """A Maven project with `dependencies`, each an element's inside."""
    listed = "".join(f"<dependency>{inside}</dependency>" for inside in dependencies)
    head = "<modelVersion>4.0.0</modelVersion><groupId>towpath</groupId><artifactId>broker</artifactId>"
    return (
        f"<project>{head}<version>1</version><packaging>pom</packaging><dependencies>{listed}</dependencies></project>"
    )


def dependency(coordinates: str) -> str:
    """`group:artifact:version` as Maven writes it."""
    group, artifact, number = coordinates.split(":")
    return f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{number}</version>"


def copy_by_maven(dependencies: Sequence[str], folder: Path, *options: str) -> bool:
    """Let Maven copy jars into `folder`; False when there is no Maven or it failed, its output has told why."""
    maven = shutil.which("mvn")
    if maven is None:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        pom = Path(scratch) / "pom.xml"
        pom.write_text(project(dependencies))
        goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}")
        command = [maven, "-q", "-B", "-f", str(pom), *goal, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            say(f"Maven failed:\n{done.stdout}{done.stderr}")
        return done.returncode == 0


def repository() -> str:
    """Where jars are fetched from without Maven."""
    named = os.environ.get("TOWPATH_MAVEN_REPOSITORY")
    if named:
        return named.rstrip("/")
    for settings in (Path.home() / ".m2" / "settings.xml", Path("/etc/maven/settings.xml")):
        if settings.is_file():
            mirror = mirror_in(settings)
            if mirror:
                return mirror.rstrip("/")
    return CENTRAL


def mirror_in(settings: Path) -> str | None:
    """The mirror of Maven Central that Maven's settings name, if any."""
    try:
        root = ET.parse(settings).getroot()  # noqa: S314 (the machine's own configuration)
    except ET.ParseError:
        return None
    for mirror in root.iter():
        if mirror.tag.rpartition("}")[2] != "mirror":
            continue
        fields = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in mirror}
        if fields.get("mirrorOf") in {"*", "central", "external:*"} and fields.get("url", "").startswith("http"):
            return fields["url"]
    return None


def fetch(jar: Jar, folder: Path, base: str) -> None:
    """Fetch one jar, unless its right bytes are there. Ends the program with a line when it cannot be had."""
    target = folder / jar.name
    if digest(target) == jar.sha256:
        return
    try:
        with urllib.request.urlopen(f"{base}/{jar.path}", timeout=FETCH_SECONDS) as answer:  # noqa: S310 (a repository)
            target.write_bytes(answer.read())
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        sys.exit(f"kafka: {base}/{jar.path}: {error}\n  Another repository: export TOWPATH_MAVEN_REPOSITORY=https://…")


def bring(folder: Path, jars: Sequence[Jar]) -> None:
    """Fetch all jars into `folder` and check each. Ends the program when one is not what the lock says."""
    folder.mkdir(parents=True, exist_ok=True)
    say(f"bringing Apache Kafka {version(jars)} ({len(jars)} jars, 42 MiB)")
    exact = [dependency(f"{jar.group}:{jar.artifact}:{jar.version}") + ANYTHING for jar in jars]
    if not copy_by_maven(exact, folder):
        base = repository()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda jar: fetch(jar, folder, base), jars))
    for jar in jars:
        if digest(folder / jar.name) != jar.sha256:
            (folder / jar.name).unlink(missing_ok=True)
            sys.exit(f"kafka: {jar.name} is not what requirements/kafka.lock says; it was removed")
    for stranger in set(folder.iterdir()) - {folder / jar.name for jar in jars}:
        stranger.unlink()


def write_lock(number: str) -> None:
    """Resolve one version of Kafka by Maven, and lock what it stands on."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wanted = [dependency(f"org.apache.kafka:kafka_2.13:{number}"), dependency(LOGGING)]
        if not copy_by_maven(wanted, folder, "-Dmdep.useRepositoryLayout=true"):
            sys.exit("kafka: locking needs a Maven that reaches a repository")
        rows = []
        for path in folder.rglob("*.jar"):
            *group, artifact, release, _ = path.relative_to(folder).parts
            rows.append(f"{'.'.join(group)}:{artifact}:{release} {digest(path)}\n")
    LOCK.write_text("".join(sorted(rows)))


def main() -> int:
    """Print the folder of the jars when they are all there. 1 when they are not."""
    match sys.argv[1:]:
        case ["--lock", number]:
            write_lock(number)
        case [] | ["--find"]:
            pass
        case _:
            sys.exit("usage: kafka.py [--find | --lock VERSION]")
    if not shutil.which("java") and not install_package("default-jre-headless", "kafka"):
        sys.exit(NO_JAVA)
    jars = locked()
    folder = HOME / version(jars)
    if not is_whole(folder, jars):
        if sys.argv[1:] == ["--find"]:
            return 1
        HOME.mkdir(parents=True, exist_ok=True)
        with (HOME / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_whole(folder, jars):
                bring(folder, jars)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
