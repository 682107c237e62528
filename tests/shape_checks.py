"""Check the shapes annotated in network and caching; conftest.py switches this on for every test."""

from collections.abc import Iterator
from contextlib import contextmanager

from beartype import BeartypeConf, beartype
from jaxtyping import config, install_import_hook

MODULES = (
    *(f"e2crf_core.network.{name}" for name in ("forward", "kvcache")),
    *(f"e2crf_core.caching.{name}" for name in ("feedback", "predictors", "selection", "state", "triggers")),
)

# A whole number may stand for a float, as the language has it.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check_shapes() -> None:
    """Check every call from now on; call this before these modules are first imported."""
    install_import_hook(MODULES, "tests.shape_checks.checked")


@contextmanager
def unchecked() -> Iterator[None]:
    """Check no shapes in this block: torch.compile would compile the checks too, and cannot."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
