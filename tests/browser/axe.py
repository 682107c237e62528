"""Accessibility of a page as axe-core sees it."""

from axe_playwright_python.sync_playwright import Axe

GRAVE = ("serious", "critical")


def grave_findings(page):
    """Return each serious or critical finding with the elements it concerns."""
    return [
        f"{finding['id']}: {node['target']} {node['failureSummary'].splitlines()[-1].strip()}"
        for finding in Axe().run(page).response["violations"]
        if finding["impact"] in GRAVE
        for node in finding["nodes"]
    ]
