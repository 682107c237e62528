"""Map the folders `assets` and `front` into the package, so that checkout and wheel share one set of files."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["e2crf_core*"]), "e2crf_core.assets", "e2crf_core.front"],
    package_dir={"e2crf_core.assets": "assets", "e2crf_core.front": "pages/ui/front"},
    package_data={
        "e2crf_core": ["py.typed", "**/*.html", "**/*.css", "**/*.jinja", "**/*.j2", "deploy/cpp/*.cpp"],
        "e2crf_core.assets": [
            "checkpoints/*/*",
            "calibrations/*",
            "data/*.npz",
            "data/*.json",
            "data/*.md",
            "demo/*.zip",
            "lessons/*.json",
        ],
        "e2crf_core.front": ["*/*.js", "*/*.css", "*/*.html"],
    },
)
