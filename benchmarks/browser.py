"""A served lab, a real browser, and a search through its pages, for benchmarks and tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
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
def served_lab(home: str) -> Iterator[str]:
    """Serve a lab whose user folder is `home` until the block ends, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true"]
    server = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "E2CRF_HOME": home}, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(150):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


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
