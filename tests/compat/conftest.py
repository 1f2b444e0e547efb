import os

os.environ.setdefault("E2B_MAX_CONNECTIONS", "1000")  # read when e2b is imported; without TLS each stream takes one

import pytest
from daemon import Daemon, Elsewhere

INSIDE = "ATOLL_TEST_INSIDE" in os.environ


def pytest_collection_modifyitems(items):
    """What needs a daemon of its own is not for somebody else's."""
    if INSIDE:
        items[:] = [item for item in items if "own_daemon" not in item.fixturenames]


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="files of 1 GiB instead of 256 MiB")


@pytest.fixture
def slow(request):
    return request.config.getoption("--slow")


@pytest.fixture(scope="session")
def daemon():
    if INSIDE:
        yield Elsewhere()
        return
    daemon = Daemon()
    daemon.start()
    os.environ.update(daemon.env())
    yield daemon
    daemon.close()


@pytest.fixture(autouse=True)
def point_the_sdk_at_the_daemon(request):
    """Every test uses the shared daemon, unless it asks for its own."""
    if "own_daemon" in request.fixturenames:
        daemon = request.getfixturevalue("own_daemon")
    else:
        daemon = request.getfixturevalue("daemon")
    os.environ.update(daemon.env())


@pytest.fixture
def own_daemon():
    daemon = Daemon()
    daemon.start()
    yield daemon
    daemon.close()


@pytest.fixture(scope="module")
def shared(daemon):
    """One sandbox for the tests of a module that do not disturb each other."""
    from sdk import create

    os.environ.update(daemon.env())
    sandbox = create(timeout=600)
    yield sandbox
    sandbox.kill()


@pytest.fixture
def sandbox():
    from sdk import create

    sandbox = create(timeout=120)
    yield sandbox
    sandbox.kill()
