"""Import models of the public FourierDiffusion library (Crabbé et al. 2024, arXiv:2402.05933) without it."""

from e2crf_core.models.fourierdiffusion.convert import (
    KIND,
    convert,
    import_fourierdiffusion,
    load_fourierdiffusion,
    load_model,
)
from e2crf_core.models.fourierdiffusion.golden import check_golden, reverse_steps
from e2crf_core.models.fourierdiffusion.layout import (
    frequency_order,
    from_positions,
    noise_scale,
    to_positions,
)
from e2crf_core.models.fourierdiffusion.network import (
    FourierDiffusionConfig,
    FourierDiffusionModel,
    FourierDiffusionNetwork,
)
from e2crf_core.models.fourierdiffusion.pickles import VPScheduler, read_checkpoint

__all__ = [
    "KIND",
    "FourierDiffusionConfig",
    "FourierDiffusionModel",
    "FourierDiffusionNetwork",
    "VPScheduler",
    "check_golden",
    "convert",
    "frequency_order",
    "from_positions",
    "import_fourierdiffusion",
    "load_fourierdiffusion",
    "load_model",
    "noise_scale",
    "read_checkpoint",
    "reverse_steps",
    "to_positions",
]
