"""The examples that open sealed values, in Python and Node, against the manual's box and one of our own."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from kernel.domain.ids import SubjectId
from kernel.ids import SystemEntropy
from kernel.sealing import seal
from tests.support.example_subscribers import EXAMPLES, ROOT
from tests.support.node_packages import HAS_NODE, NODE_REASON
from tests.support.requires import requires

SUBJECT = "00000000-0000-4000-8000-000000000001"
KEY = bytes(range(32))
OURS = seal(SubjectId(SUBJECT), KEY, b'{"user":"ada"}', SystemEntropy(), "json").box


def box_of_the_manual() -> bytes:
    page = (ROOT / "docs/subscribe-to-events.md").read_text()
    (found,) = re.findall(r"^```\n(01[0-9a-f]{60,})\n```$", page, re.MULTILINE)
    return bytes.fromhex(found)


def loaded(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("unseal_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_in_python_opens_what_is_sealed() -> None:
    unseal = loaded(EXAMPLES / "python/unseal.py").unseal
    assert unseal(box_of_the_manual(), KEY, SUBJECT, "text") == b"ada@example.com"
    assert unseal(OURS, KEY, SUBJECT, "json") == b'{"user":"ada"}'
    with pytest.raises(InvalidTag):
        unseal(OURS, KEY, SUBJECT, "text")


@requires("Node", available=HAS_NODE, reason=NODE_REASON)
def test_the_example_in_node_opens_what_is_sealed() -> None:
    program = """
      const [file, key, subject, ...boxes] = process.argv.slice(1);
      const { unseal } = await import(file);
      const hex = (text) => Buffer.from(text, 'hex');
      const told = [unseal(hex(boxes[0]), hex(key), subject, 'text'), unseal(hex(boxes[1]), hex(key), subject, 'json')];
      let refused = false;
      try { unseal(hex(boxes[1]), hex(key), subject, 'text'); } catch { refused = true; }
      console.log(JSON.stringify([...told.map(String), refused]));
    """
    values = [str(EXAMPLES / "node/unseal.mjs"), KEY.hex(), SUBJECT, box_of_the_manual().hex(), OURS.hex()]
    command = ["node", "--input-type=module", "-e", program, *values]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["ada@example.com", '{"user":"ada"}', True]
