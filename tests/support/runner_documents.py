"""Small documents for the runner, and the model site that they are about."""

from __future__ import annotations

from typing import Any

from tests.support.model_site import HOST, Control, ModelPage, Site


def step(kind: str, id_: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": kind, "params": params, **more}


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "steps": list(steps), **{name.rstrip("_"): value for name, value in more.items()}}


def click(id_: str, name: str, **more: Any) -> dict[str, Any]:
    params = {"target": {"locators": [{"role": "button", "name": name}]}, **more.pop("params", {})}
    return step("click", id_, params, **more)


def fill(id_: str, name: str, value: str) -> dict[str, Any]:
    return step("fill", id_, {"target": {"locators": [{"label": name}]}, "value": value})


OPEN = step("navigate", "open", {"url": f"https://{HOST}/form"})
SAVE = click("save", "Save")
PROVE = step("assert", "prove", {"that": ["1 < 2"]})
FORM = document(OPEN, fill("name", "Name", "{{inputs.who}}"), SAVE, PROVE, inputSchema={"properties": {"who": {}}})


def a_shop() -> Site:
    def save(page: ModelPage) -> None:
        page.url = f"https://{HOST}/done"

    return Site(
        pages={
            "/form": [
                Control(role="textbox", name="Name", tag="input"),
                Control(name="Save", click=save),
                Control(role="textbox", name="Password", tag="input", type="text"),
            ],
            "/done": [],
            "/orders": [Control(role="row", name="17"), Control(role="row", name="18")],
        },
        texts={"/done": "saved", "/orders": "order 17"},
    )
