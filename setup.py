"""Map the folder `assets` into the package, so that checkout and wheel share one set of files."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["e2crf_core*"]), "e2crf_core.assets"],
    package_dir={"e2crf_core.assets": "assets"},
    package_data={
        "e2crf_core": ["py.typed", "**/*.html", "**/*.css", "**/*.jinja", "**/*.j2"],
        "e2crf_core.assets": ["checkpoints/*/*", "data/*.npz", "data/*.json", "data/*.md", "demo/run.zip"],
    },
)
