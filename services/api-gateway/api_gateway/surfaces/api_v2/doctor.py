"""`/doctor`: whether the installation is in order, for those who run it."""

from __future__ import annotations

from litestar import Response, get

from api_gateway import doctor
from api_gateway.doctor import Verdict
from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_admin, principal_of
from api_gateway.surfaces.api_v2.about import About
from api_gateway.surfaces.api_v2.reading import json_answer
from api_gateway.surfaces.api_v2.views import Resource, stamp


class Finding(Resource, kw_only=True):
    """One answer; `advice` is null when it is in order."""

    check: str
    verdict: Verdict
    message: str
    advice: str | None


class Examination(Resource, kw_only=True):
    """All answers. `verdict` is the worst of them; `now` is the server's clock."""

    verdict: Verdict
    now: str
    findings: list[Finding]


_WORST = (Verdict.FAILED, Verdict.WARNING, Verdict.OK)


@get("/doctor", guards=[needs_admin], opt=About("Examine the installation", Examination).opt())
async def get_doctor(request: AnyRequest) -> Response[bytes]:
    services = gateway_of(request).services
    found = await doctor.examine(services, principal_of(request).organization_id)
    views = [
        Finding(check=one.check, verdict=one.verdict, message=one.message, advice=one.advice or None) for one in found
    ]
    verdict = next(worst for worst in _WORST if worst is Verdict.OK or any(v.verdict is worst for v in views))
    return json_answer(Examination(verdict=verdict, now=stamp(services.clock.now_ms()), findings=views))


HANDLERS = (get_doctor,)
