"""A served lab, a real browser, and a search through its pages, for benchmarks and tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 300
EVERY = """const every = function* (root) {
  for (const node of root.querySelectorAll('*')) {
    yield node;
    if (node.shadowRoot) yield* every(node.shadowRoot);
  }
};"""
"""JavaScript: all elements below a root, also those within components."""


def first(name: str) -> str:
    """Return a JavaScript function that returns a page's first element of a class, undefined without one."""
    return f"""() => {{
  {EVERY}
  for (const node of every(document)) if (node.classList.contains('{name}')) return node;
}}"""


@contextmanager
def served_lab(**environment: str) -> Iterator[str]:
    """Serve the lab, as `streamlit run app.py` does, until the block ends, and yield its address.

    `environment` is added to that of this process. Raises RuntimeError with what the server said if it does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true"]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            if not _answers(f"http://127.0.0.1:{port}/_stcore/health", server):
                log.seek(0)
                raise RuntimeError(f"the lab did not start:\n{log.read()}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    """Wait until a server answers, however busy the machine is; False if it ends before."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return True
        except OSError:
            time.sleep(0.2)
    return False


@contextmanager
def browser_page(script: str = "") -> Iterator[Any]:
    """Yield a page of headless Chromium, 1440 px wide; `script` runs in it before anything else."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=flags)
        page = browser.new_page(viewport={"width": 1440, "height": 1150})
        if script:
            page.add_init_script(script)
        yield page
        browser.close()
