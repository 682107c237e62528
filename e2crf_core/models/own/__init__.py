"""Import networks of the user's own: their code runs only with consent, and must keep the protocol's laws."""

from e2crf_core.models.own.convert import KIND, import_network, load_model
from e2crf_core.models.own.factories import Factory, find_factory, trust
from e2crf_core.models.own.laws import Law, check_laws

__all__ = ["KIND", "Factory", "Law", "check_laws", "find_factory", "import_network", "load_model", "trust"]
