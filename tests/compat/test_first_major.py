"""The newest 1.x of the SDKs: they know only a domain, so they are inside one."""

import os

import pytest
from test_domain import house  # noqa: F401, a fixture

FIRST = os.environ.get("ATOLL_TEST_FIRST")
SUITE = ["async", "commands", "files", "pty"]


@pytest.mark.skipif(not FIRST, reason="ATOLL_TEST_FIRST names no directory with the Python SDK's 1.x")
@pytest.mark.parametrize("files", [[f"test_{name}.py" for name in SUITE], ["inside_first_major.py"]], ids=["as-newer-ones", "its-own"])
def test_the_python_sdk(house, files):  # noqa: F811
    house.pytest(*files, PYTHONPATH=FIRST)


def test_the_javascript_sdk(house):  # noqa: F811
    house.pytest("test_javascript.py", ATOLL_TEST_SDK="e2b-first")
