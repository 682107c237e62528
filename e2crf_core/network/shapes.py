"""Tensor types that state a shape, such as Float[Tensor, "B n d"]: checked in tests, mere documentation elsewhere.

B samples, n tokens, d features, c = 2M coordinates, T chosen rows; b is B, or 1 where all samples agree. The tests
install jaxtyping's import hook, which checks every call; without jaxtyping the types mean any tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, Shaped, UInt8
    except ImportError:

        class Shaped:
            """Stands for any tensor where jaxtyping is not installed."""

            def __class_getitem__(cls, item: Any) -> Any:
                """The array type alone."""
                return item[0]

        Bool = Float = Int = UInt8 = Shaped

__all__ = ["Bool", "Float", "Int", "Shaped", "UInt8"]
