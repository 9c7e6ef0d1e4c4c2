"""The engine and the images, once for all tests; none of it in an ordinary run of the tests."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.image.engine import (
    BASE,
    IMAGE,
    ROOT,
    WORK,
    Engine,
    import_base,
    own_network,
    without_network,
)
from tests.image.stack import stand_ins

BUILD_S = 1800
NEEDED = ("dockerd", "docker", "docker-compose", "debootstrap", "ip")

# Minutes and an engine: a run for itself, which says that it is wanted.
if os.environ.get("GTHREADSRV_TEST_IMAGE") != "1":
    collect_ignore_glob = ["*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for a base and images to be made, which other work makes slow."""
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(BUILD_S))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine that has the images, in a network of its own."""
    assert os.geteuid() == 0, "make test-image starts an engine and needs root"
    missing = [name for name in NEEDED if not shutil.which(name)]
    assert not missing, f"not installed: {', '.join(missing)} (make test-image-deps)"
    folder = Path(tempfile.mkdtemp(prefix="gthreadsrv-engine-"))
    one = Engine(folder)
    try:
        without_network(one)
        import_base(one)
        one.build(
            ROOT, IMAGE, "--build-arg", f"PYTHON_IMAGE={BASE}", dockerfile="docker/Dockerfile"
        )
        one.build(ROOT / "docker" / "example", "hello")
        stand_ins(one)
        one.stop()
        with own_network():
            one.start()
            yield one
            one.stop()
    finally:
        one.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Report(dict[str, Any]):
    """What was measured; printed at the end and left in build/image/report.json."""


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """The numbers of this run."""
    numbers = Report()
    yield numbers
    text = json.dumps(numbers, indent=2)
    (WORK / "report.json").write_text(text + "\n")
    print(f"\n{text}")
