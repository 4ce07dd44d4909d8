"""One life of the product with planted values, told once: logging in with a code, collecting, failing; then it ends.

Story    what was planted, what every way out has said, what the folder looked like, how pictures were masked
tell     lives it: real processes, a real browser, a shop that asks for a one-time code
crawl    every answer that a holder of the key can get

The product is the embedded form unless another one is named.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import httpx
from playwright.async_api import Browser

from browser_runner.process_tree import descendants
from embedded.settings import Settings
from tests.support.canary_shop import CanaryShop, canary_shop, collect_workflow, failing_workflow, login_workflow
from tests.support.chromium import chromium_path, launched
from tests.support.disguises import Planted, Search, below, plant, search_for
from tests.support.platform_process import PlatformProcess, Role

HARD = 'ß"{}\\/&+%'
"""Around a core: what every encoding has to escape."""
Json = dict[str, Any]
Box = dict[str, float]


class Product(AbstractContextManager["Product"], Protocol):
    """What the story needs of a form of the product: `PlatformProcess` and `ClusterProcess` have it."""

    data: Path
    url: str
    launcher: subprocess.Popen[bytes] | None

    def __enter__(self) -> Self: ...

    def start(self) -> None: ...

    def await_ready(self) -> None: ...

    def await_end(self) -> int: ...

    def processes(self) -> Collection[int]: ...

    def said(self) -> str: ...


@dataclass(slots=True)
class Answer:
    """What one call has answered."""

    call: str
    status: int
    content: bytes
    head: str = ""

    def whole(self) -> bytes:
        """Headers and body."""
        return self.head.encode() + b"\n\n" + self.content


@dataclass(slots=True)
class Picture:
    """A picture of evidence: its size, and the share of pixels of a box that have the colour of the mask."""

    step_id: str
    width: int
    height: int
    masked: float
    masked_elsewhere: float
    """The same for a field that received no secret."""


@dataclass(slots=True)
class Story:
    """What came of it."""

    folder: Path
    secrets: list[Planted] = field(default_factory=list)
    personal: list[Planted] = field(default_factory=list)
    external_id: str = ""
    ids: list[str] = field(default_factory=list)
    """Paths below the prefix that name one thing each."""
    answers: list[Answer] = field(default_factory=list)
    extracted: set[str] = field(default_factory=set)
    """Digests of the artifacts that are extracted data, or a trace of the pages that showed it."""
    types: Counter[str] = field(default_factory=Counter)
    """How many artifacts there were of each type."""
    pictures: list[Picture] = field(default_factory=list)
    live: Search = field(default_factory=lambda: Search({}))
    """What was found while the run was waiting for the code: processes, folder, profile of the browser."""
    looked_at: int = 0
    """How many processes and files that were."""
    failures: dict[str, str] = field(default_factory=dict)
    """Error texts by step."""
    core_limits: set[str] = field(default_factory=set)
    """How big a core file of each process may become."""
    left: list[str] = field(default_factory=list)
    """What lay in the folders for temporary files when all was over."""

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def crashed(self) -> Path:
        """The data folder as it was when the run had ended and the platform was alive: what a crash would leave."""
        return self.folder / "crashed"

    @property
    def scratches(self) -> tuple[Path, Path]:
        """Where temporary files go: the folder that the product was told, and the one that it takes."""
        return self.folder / "scratch", Settings(self.data).scratch

    def values(self) -> list[Planted]:
        return [*self.secrets, *self.personal]


def platform_over(folder: Path) -> PlatformProcess:
    """The product without its demo; temporary files go below `folder`."""
    (folder / "scratch").mkdir(exist_ok=True)
    return PlatformProcess(folder, browser=chromium_path(), TOWPATH_DEMO="0", TMPDIR=str(folder / "scratch"))


@asynccontextmanager
async def api_of(platform: Product) -> AsyncIterator[httpx.AsyncClient]:
    """A client below `/api/v2` with the folder's key."""
    headers = {"Authorization": f"Bearer {(platform.data / 'api-key').read_text().strip()}"}
    async with httpx.AsyncClient(base_url=f"{platform.url}/api/v2", headers=headers, timeout=30) as api:
        yield api


async def _crash(story: Story, platform: PlatformProcess) -> None:
    whoever_writes = (Role.WATCHDOG, Role.PLATFORM)
    platform.signal(signal.SIGSTOP, *whoever_writes)  # the files of one moment
    await asyncio.to_thread(shutil.copytree, story.data, story.crashed)
    platform.signal(signal.SIGCONT, *whoever_writes)


async def tell(
    folder: Path,
    product_over: Callable[[Path], Product] = platform_over,
    before_its_end: Callable[[Story, Any], Awaitable[None]] = _crash,
) -> Story:
    """Live it below `folder`; afterwards nothing runs any more. `before_its_end` is called when the run has ended."""
    story = Story(folder)
    password, code = plant("password", f"{HARD}{{}}{HARD}"), plant("one-time code")
    wrong = plant("rejected code")
    story.secrets = [password, code, wrong]
    names = ("external id", "user name", "reference", "private text", "phone")
    external_id, user, reference, private, phone = story.personal = [plant(name) for name in names]
    story.external_id = external_id.text
    with product_over(folder) as platform:
        async with canary_shop(
            folder, username=user.text, password=password.text, code=code.text, private=private.text
        ) as shop:
            platform.start()
            await asyncio.to_thread(platform.await_ready)
            async with api_of(platform) as api, launched() as browser:
                boxes = await _boxes(browser, shop.url, user.text, password.text)
                job_id = await _define(api, shop)
                given = {"username": user.text, "password": password.text, "reference": reference.text}
                await _err(story, api, job_id, given, code.text)
                start = {"jobId": job_id, "externalId": external_id.text, "inputs": given, "debug": {"trace": True}}
                run = await _start(story, api, start)
                question = await _question(api)
                await asyncio.to_thread(_look_at_what_lives, story, platform)
                answer = await api.post(
                    f"/input-requests/{question}/answer", json={"values": {"code": wrong.text, "phone": phone.text}}
                )
                assert answer.status_code == 200, answer.text
                question = await _question(api, but=question)
                await _reply(story, api, question, {"code": code.text, "phone": phone.text})
                await _ended(api, run)
                story.secrets += [_cookie(cookie) for cookie in shop.cookies]
                story.ids = await ids_of(api)
                story.answers += await crawl(api, story.ids, external_id.text)
                await _note_facts(story, api, browser, boxes)
        await before_its_end(story, platform)
        platform.launcher.terminate()  # type: ignore[union-attr]  # it was started above
        assert await asyncio.to_thread(platform.await_end) == 0
    story.left = [path.name for scratch in story.scratches if scratch.is_dir() for path in scratch.iterdir()]
    return story


def _cookie(value: str) -> Planted:
    return Planted("session cookie", value, value.partition(".")[2])


# ---------------------------------------------------------------- the run


async def _define(api: httpx.AsyncClient, shop: CanaryShop) -> str:
    order = []
    documents = {"LOGIN": login_workflow, "USER_DEFINED": collect_workflow, "USER_DEFINED ": failing_workflow}
    for type_, document in documents.items():
        body = {"name": type_, "sourceProvider": "canary", "type": type_.strip(), "stepsJson": document(shop.url)}
        order.append((await _made(api, "/workflows", body))["id"])
    body = {"name": "all", "sourceProvider": "canary", "jobConfigJson": {"workflowExecutionOrder": order}}
    return str((await _made(api, "/jobs", body))["id"])


async def _made(api: httpx.AsyncClient, path: str, body: Json) -> Json:
    answer = await api.post(path, json=body)
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


async def _start(story: Story, api: httpx.AsyncClient, start: Json) -> str:
    """Start the job, and ask for the same again: the second answer is a kept one."""
    for _ in range(2):
        answer = await api.post("/job-runs", json=start, headers={"Idempotency-Key": "canary-key-1"})
        assert answer.status_code == 201, answer.text
        story.answers.append(Answer("POST /job-runs", answer.status_code, answer.content))
    assert answer.headers["idempotency-replayed"] == "true"
    return str(answer.json()["id"])


async def _question(api: httpx.AsyncClient, but: str = "") -> str:
    async with asyncio.timeout(60):
        while True:
            found = (await api.get("/input-requests?status=OPEN")).json()["data"]
            if found and found[0]["id"] != but:
                return str(found[0]["id"])
            await asyncio.sleep(0.05)


async def _reply(story: Story, api: httpx.AsyncClient, question: str, good: Json) -> None:
    """Wrong forms first, then the good one, then that one again."""
    forms: tuple[tuple[Json, int], ...] = (
        ({**good, "other": good["code"]}, 422), ({**good, "code": [good["code"]]}, 422), (good, 200), (good, 409),
    )  # fmt: skip
    for values, status in forms:
        answer = await api.post(f"/input-requests/{question}/answer", json={"values": values})
        assert answer.status_code == status, answer.text
        story.answers.append(Answer(f"POST answer {status}", answer.status_code, answer.content))


async def _ended(api: httpx.AsyncClient, run: str) -> None:
    async with asyncio.timeout(60):
        found: Json = {"status": ""}
        while found["status"] not in {"COMPLETED", "FAILED"}:
            await asyncio.sleep(0.05)
            found = (await api.get(f"/job-runs/{run}")).json()
    assert (found["errorReason"], found["failedStep"]["stepId"]) == ("wait_failed", "lost"), found


async def _err(story: Story, api: httpx.AsyncClient, job_id: str, given: Json, code: str) -> None:
    """Requests that carry secrets and are refused: what was sent is not sent back."""
    lacking = {name: value for name, value in given.items() if name != "reference"}
    for path, body in (
        ("/job-runs", {"jobId": job_id, "inputs": lacking}),
        ("/job-runs", {"jobId": job_id, "inputs": {**given, "username": [given["password"]]}}),
        ("/job-runs", {"jobId": job_id, "inputs": given, "externalId": [given["password"]]}),
        ("/job-runs", {"jobId": given["password"], "inputs": given}),
        ("/workflow-runs", {"workflowId": job_id, "inputs": given}),
        (f"/input-requests/{job_id}/answer", {"values": {"code": code}}),
    ):
        answer = await api.post(path, json=body)
        assert 400 <= answer.status_code < 500, answer.text
        story.answers.append(Answer(f"POST {path} refused", answer.status_code, answer.content))
    cut = json.dumps({"jobId": job_id, "inputs": given}).encode()[:-3]
    answer = await api.post("/job-runs", content=cut, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    story.answers.append(Answer("POST half a body", answer.status_code, answer.content))


def _look_at_what_lives(story: Story, platform: Product) -> None:
    """Command lines, environments and files of everything that runs while the page with the password is open."""
    search = story.live = search_for(*story.secrets)
    assert platform.launcher is not None
    pids = {*platform.processes(), *descendants(platform.launcher.pid)} - {platform.launcher.pid}
    for pid in pids:
        for file in ("cmdline", "environ", "comm"):
            try:
                search.look(Path(f"/proc/{pid}/{file}").read_bytes(), f"{file} of a process")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # It has ended meanwhile.
        story.core_limits |= _core_limit(pid)
    # A trace that is being recorded is raw; the recorder's folder goes with the page, and before it is ever kept.
    folders = (story.data, *story.scratches)
    raw = [path for folder in folders for path in below(folder) if "/playwright-artifacts-" in str(path)]
    files = sum(search.look_into(folder, raw) for folder in folders)
    search.look(platform.said(), "output")
    story.looked_at = len(pids) + files


def _core_limit(pid: int) -> set[str]:
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return set()
    return {line.split()[4] for line in lines if line.startswith("Max core file size")}


# ---------------------------------------------------------------- what can be asked


async def ids_of(api: httpx.AsyncClient) -> list[str]:
    """The path of every single thing."""
    found = []
    for kind in ("workflows", "jobs", "job-runs", "workflow-runs", "artifacts", "input-requests"):
        found += [f"/{kind}/{item['id']}" for item in (await api.get(f"/{kind}?page_size=100")).json()["data"]]
    return found


async def crawl(api: httpx.AsyncClient, ids: list[str], external_id: str) -> list[Answer]:
    """Everything that can be read, streams, bytes, contracts and metrics included."""
    paths = [f"/{kind}?page_size=100" for kind in ("workflows", "jobs", "job-runs", "workflow-runs", "artifacts")]
    paths += [f"/{kind}?externalId={external_id}" for kind in ("job-runs", "workflow-runs")]
    paths += ["/input-requests", "/openapi.json", "/schemas/steps-json", "/nowhere", f"/jobs/{external_id}"]
    paths += [str(api.base_url.copy_with(path=path)) for path in ("/metrics", "/healthz", "/health/ready", "/docs")]
    for path in ids:
        paths.append(path)
        if path.startswith("/workflow-runs/"):
            paths += [f"{path}/steps", f"{path}/events", f"{path}/artifacts"]
    answers = [await _read(api, path) for path in paths]
    for path in ids:
        if path.startswith("/workflow-runs/"):
            answers.append(await _read(api, f"{path}/events", accept="text/event-stream"))
        if path.startswith("/artifacts/") and answers[paths.index(path)].status == 200:
            answers.append(await _read(api, str(json.loads(answers[paths.index(path)].content)["signedUrl"])))
    return answers


async def _read(api: httpx.AsyncClient, path: str, accept: str = "*/*") -> Answer:
    answer = await api.get(path, headers={"Accept": accept})
    head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    return Answer(f"GET {path.partition('?')[0]}", answer.status_code, answer.content, head)


# ---------------------------------------------------------------- pictures


async def _boxes(browser: Browser, shop_url: str, username: str, password: str) -> Json:
    """Where the fields are on the shop's pages, in a window like the runner's."""
    page = await browser.new_page()
    await page.goto(f"{shop_url}/login")
    boxes = {name: await page.locator(f"input[name={name}]").bounding_box() for name in ("username", "password")}
    await page.fill("input[name=username]", username)
    await page.fill("input[name=password]", password)
    await page.get_by_role("button", name="Log in").click()
    boxes["code"] = await page.locator("input[name=code]").bounding_box()
    boxes["button"] = await page.get_by_role("button", name="Confirm").bounding_box()
    await page.close()
    return boxes


_MASKED = """async ([jpeg, box, other]) => {
  const picture = new Image();
  picture.src = 'data:image/jpeg;base64,' + jpeg;
  await picture.decode();
  const canvas = document.createElement('canvas');
  canvas.width = picture.width; canvas.height = picture.height;
  const drawing = canvas.getContext('2d');
  drawing.drawImage(picture, 0, 0);
  const share = ({x, y, width, height}) => {
    const seen = drawing.getImageData(x + 3, y + 3, width - 6, height - 6).data;
    let masked = 0;
    for (let at = 0; at < seen.length; at += 4)
      masked += seen[at] > 215 && seen[at + 1] < 40 && seen[at + 2] > 215;
    return masked / (seen.length / 4);
  };
  return [picture.width, picture.height, share(box), share(other)];
}"""


async def _note_facts(story: Story, api: httpx.AsyncClient, browser: Browser, boxes: Json) -> None:
    pairs = {
        "password": ("password", "username"),
        "not_there": ("password", "username"),
        "code": ("code", "button"),
        "picture": ("code", "button"),
    }
    page = await browser.new_page()
    for item in (await api.get("/artifacts?page_size=100")).json()["data"]:
        story.types[item["type"]] += 1
        if item["type"] in {"extracted_data", "trace"}:
            story.extracted.add(item["fileHash"])
        step_id = item["displayName"].partition(".")[0].removesuffix("-seen")
        if item["type"] == "screenshot" and step_id in pairs:
            signed = (await api.get(f"/artifacts/{item['id']}")).json()["signedUrl"]
            content = (await api.get(signed)).content
            (story.folder / f"{step_id}.jpg").write_bytes(content)
            box, other = (boxes[name] for name in pairs[step_id])
            seen = await page.evaluate(_MASKED, [_base64(content), box, other])
            story.pictures.append(Picture(step_id, *seen))
    for run in (await api.get("/workflow-runs")).json()["data"]:
        for step in (await api.get(f"/workflow-runs/{run['id']}/steps")).json()["data"]:
            if step["error"]:
                story.failures[step["stepId"]] = step["error"]["message"]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
