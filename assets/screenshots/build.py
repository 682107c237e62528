"""Make `live.gif`, the moving picture of README: the threshold of the Live page is turned up and down again.

    make app
    python -m assets.screenshots.build http://localhost:8501

It needs playwright and chromium (`make dev`), and takes half a minute.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.browser import first

PATH = Path(__file__).with_name("live.gif")
SIZE = {"width": 1180, "height": 980}
WIDTH = 900
TURNS = 14
KEYS = 5
"""Steps of the slider between two pictures."""
PICTURE_MS = 170
MOST_BYTES = 2_000_000
LAB = f"() => ({first('instrument')})()?.dataset"


def picture(page: Page) -> Image.Image:
    """Return what is shown once the last question is answered."""
    page.wait_for_function(f"() => ({LAB})()?.settled === 'true'")
    shot = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
    return shot.convert("RGB").resize(
        (WIDTH, WIDTH * SIZE["height"] // SIZE["width"]), Image.Resampling.LANCZOS
    )


def pictures(page: Page) -> list[Image.Image]:
    """Turn the threshold up, step by step."""
    dial = page.get_by_role("slider", name="Threshold")
    dial.focus()
    taken = [picture(page)]
    for _ in range(TURNS):
        before = page.evaluate(f"() => ({LAB})().serial")
        for _ in range(KEYS):
            page.keyboard.press("ArrowRight")
        page.wait_for_function(f"(before) => ({LAB})().serial !== before", arg=before)
        taken.append(picture(page))
    return taken


def main(address: str) -> None:
    """Drive a running lab, and write the animation beside this file."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.set_default_timeout(120_000)
        policy = '{"trigger":"log_snr","tau":0.5,"clock":"profile","predictor":"linear"}'
        page.goto(f"{address}/live?checkpoint=wind&policy={policy}")
        page.wait_for_function(f"() => ({LAB})()?.whole === 'true'")
        # The picture is of the instrument; its settings in the sidebar would take a quarter of it.
        page.add_style_tag(content='[data-testid="stSidebar"] { display: none }')
        up = pictures(page)
        browser.close()
    there_and_back = [*up, *up[-2:0:-1]]
    frames = [frame.quantize(256, dither=Image.Dither.NONE) for frame in there_and_back]
    frames[0].save(PATH, save_all=True, append_images=frames[1:], duration=PICTURE_MS, loop=0, optimize=True)
    size = PATH.stat().st_size
    print(f"{PATH}: {len(frames)} pictures, {size / 1e6:.2f} MB")
    if size > MOST_BYTES:
        raise SystemExit(f"more than {MOST_BYTES / 1e6:.0f} MB: take fewer or smaller pictures")


main(sys.argv[1])
