"""Define tensor types that state a shape, such as Float[Tensor, "B n d"], which tests check.

B samples, n tokens, d features, c = 2M coordinates, T chosen rows; b is B, or 1 if all samples agree. The
tests install jaxtyping's import hook, which checks every call; without jaxtyping, the types accept any
tensor.
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
            """A stand-in for any tensor type if jaxtyping is not installed."""

            def __class_getitem__(cls, item: Any) -> Any:
                """Return the array type alone."""
                return item[0]

        Bool = Float = Int = UInt8 = Shaped

__all__ = ["Bool", "Float", "Int", "Shaped", "UInt8"]
