"""Nobody is let in: not foreign Host names, not other machines, and not through the proxy without a password.

The proxy runs docs/deployment/Caddyfile as it is, with the lab and `e2crf serve` behind it.
"""

import json
import os
import shutil
import ssl
import subprocess
import sys

import httpx
import pytest
import trustme
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from e2crf_core.serving.server import make_app
from tests.routes import listed, refusals
from tests.served import LAB, ROOT, SERVE, free_port, listening, started
from tests.test_serve import MODEL
from tests.tiny import tiny_assets
from tests.waiting import PATIENCE_S

HOST, USER, PASSWORD, TOKEN = "lab.example", "lab", "correct-horse", "battery-staple"

FOREIGN = ("evil.example", "127.0.0.1.evil.example:8501", "localhost.evil")
LOOPBACK = "0100007F"


@pytest.fixture(scope="module")
def caddy():
    if shutil.which("caddy") is None:
        reason = "caddy is not installed: `make proxy` installs it on Debian"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return "caddy"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Provide a folder with a certificate for HOST, its key, and its authority."""
    folder, root = tmp_path_factory.mktemp("tls"), trustme.CA()
    certificate = root.issue_cert(HOST)
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    root.cert_pem.write_to_path(folder / "ca.pem")
    return folder


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Provide (port, process id) of the lab and of `e2crf serve`, started with nothing but a port and a name."""
    folder = tmp_path_factory.mktemp("servers")
    lab, serve = free_port(), free_port()
    assets = {"E2CRF_ASSETS": str(tiny_assets(folder / "assets", ("ecg",)))}
    pages = [*LAB, "--server.port", str(lab), "--browser.serverAddress", HOST]
    samples = [*SERVE, "--port", str(serve), "--allow-host", HOST]
    with (
        started(pages, lab, folder / "lab.log", environment=assets) as first,
        started(samples, serve, folder / "serve.log", environment=assets | {"E2CRF_TOKEN": TOKEN}) as second,
    ):
        yield (lab, first), (serve, second)


@pytest.fixture(scope="module")
def proxy(caddy, authority, servers, tmp_path_factory):
    """Provide the port of the proxy, with the lab and `e2crf serve` behind it."""
    folder = tmp_path_factory.mktemp("proxy")
    port = free_port()
    digest = subprocess.run([caddy, "hash-password", "--plaintext", PASSWORD], capture_output=True, text=True)
    (lab, _), (serve, _) = servers
    settings = {
        "LAB_HOST": HOST,
        "LAB_USER": USER,
        "LAB_PASSWORD_HASH": digest.stdout.strip(),
        "TLS": f"tls {authority / 'cert.pem'} {authority / 'key.pem'}",
        "LAB_UPSTREAM": f"127.0.0.1:{lab}",
        "SERVE_UPSTREAM": f"127.0.0.1:{serve}",
        "BIND": "127.0.0.1",
        "HTTP_PORT": str(free_port()),
        "HTTPS_PORT": str(port),
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    command = [caddy, "run", "--adapter", "caddyfile", "--config", ROOT / "docs/deployment/Caddyfile"]
    with started(command, port, folder / "caddy.log", environment=settings):
        yield port


@pytest.fixture(scope="module")
def trust(authority):
    return ssl.create_default_context(cafile=authority / "ca.pem")


@pytest.fixture
def client(proxy, trust):
    """Provide a client that reaches HOST at the proxy, without a name server."""
    with httpx.Client(verify=trust, timeout=PATIENCE_S, trust_env=False) as client:

        def ask(path, auth=None, headers=None):
            return client.get(
                f"https://127.0.0.1:{proxy}{path}",
                auth=auth,
                headers={"Host": f"{HOST}:{proxy}"} | (headers or {}),
                extensions={"sni_hostname": HOST},
            )

        yield ask


def socket(proxy, trust, path, password=None):
    """Connect to a socket as a page of the lab does."""
    credentials = f"{USER}:{password}@" if password else ""
    return connect(
        f"wss://{credentials}{HOST}:{proxy}{path}",
        address=("127.0.0.1", proxy),
        ssl=trust,
        origin=f"https://{HOST}:{proxy}",
        open_timeout=PATIENCE_S,
        proxy=None,
    )


def lab_refusals(*hosts: str) -> dict[str, list]:
    """Walk the lab's routes in a process of their own, since a process has one Streamlit."""
    command = [sys.executable, "-m", "tests.routes", *hosts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_lab_refuses_a_foreign_host_on_every_route_and_socket_of_its_own_table():
    walked = lab_refusals(*FOREIGN, "127.0.0.1:8501")
    for host in FOREIGN:
        table = {(method, path): refused for method, path, refused in walked[host]}
        assert all(table.values()), (host, [key for key, refused in table.items() if not refused])
        assert ("SOCKET", "/_stcore/stream") in table and ("GET", "/_stcore/health") in table
        assert any(method == "SOCKET" and "lab/live" in path for method, path in table)
    served = [refused for method, _, refused in walked["127.0.0.1:8501"] if method not in ("SOCKET", "HEAD")]
    assert not any(served)


def test_serve_refuses_a_foreign_host_on_every_route_of_its_own_table():
    app = make_app(MODEL)
    for host in FOREIGN:
        table = refusals(app, host)
        assert all(table.values()) and len(table) > 8
        assert {("POST", "/samples"), ("GET", "/metrics"), ("GET", "/docs")} <= table.keys()


def test_whatever_makes_serve_work_needs_its_token():
    app = make_app(MODEL, token=TOKEN)
    client = TestClient(app, base_url="http://localhost")
    posts = {path for method, path in listed(app.routes) if method == "POST"}
    assert {"/samples", "/events", "/impute", "/score"} <= posts
    for path in posts:
        assert client.post(path, json={}).status_code == 401, path
        assert client.post(path, json={}, headers={"Authorization": "Bearer wrong"}).status_code == 401, path


def test_both_servers_listen_on_this_machine_only(servers):
    """As `ss -ltn` shows it; no address is named on the command line."""
    assert [listening(process) for _, process in servers] == [{LOOPBACK}, {LOOPBACK}]


def test_the_proxy_does_not_start_without_a_password(caddy, tmp_path):
    command = [caddy, "adapt", "--adapter", "caddyfile", "--config", ROOT / "docs/deployment/Caddyfile"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LAB_HOST": HOST}
    started_open = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert started_open.returncode != 0 and "password" in started_open.stderr


def test_pages_need_the_password_and_come_with_security_headers(client):
    for path in ("/", "/_stcore/health", "/tune", "/_stcore/upload_file/1/1"):
        for auth in (None, (USER, "wrong"), ("other", PASSWORD)):
            refused = client(path, auth)
            assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic")
    page = client("/", (USER, PASSWORD))
    assert page.status_code == 200 and "<title>Streamlit" in page.text
    assert "max-age" in page.headers["strict-transport-security"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/_stcore/stream", "/lab/live/no-such-run", "/lab/ask"])
def test_sockets_need_the_password_too(proxy, client, path):
    opening = {
        "Origin": f"https://{HOST}:{proxy}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for auth in (None, (USER, "wrong")):
        assert client(path, auth, opening).status_code == 401


def test_the_right_password_lets_the_sockets_of_the_live_page_through(proxy, trust):
    for path in ("/_stcore/stream", "/lab/ask"):
        with socket(proxy, trust, path, PASSWORD):
            pass
    with (
        socket(proxy, trust, "/lab/live/no-such-run", PASSWORD) as live,
        pytest.raises(ConnectionClosed) as closed,
    ):
        live.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd.code == 4404  # the lab itself answers that there is no such run


def test_samples_need_the_token_and_not_the_password(client):
    assert client("/api/health/live").json() == {"status": "live"}
    assert client("/api/metrics").status_code == 401
    assert client("/api/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
