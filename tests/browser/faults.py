"""What goes wrong in a browser without a word on the page."""

# Streamlit asks below a deep link's own path first; the answer is harmless.
HARMLESS = ("_stcore/health", "_stcore/host-config")


def watch_faults(page):
    """Return a list that fills with a page's script errors, logged errors, and requests that failed."""
    faults: list[str] = []

    def answered(response):
        if response.status >= 400 and not response.url.endswith(HARMLESS):
            faults.append(f"{response.status} {response.url}")

    def logged(line):
        if line.type == "error" and "Failed to load resource" not in line.text:
            faults.append(line.text)

    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("response", answered)
    page.on("console", logged)
    return faults
