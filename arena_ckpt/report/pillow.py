"""Access to Pillow, the optional package that draws pictures."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

from arena_ckpt.errors import InvalidParameterError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont


def require_pillow() -> None:
    """Refuse to go on if the optional Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise InvalidParameterError(
            "pictures need Pillow, which is not installed; install it with "
            "'pip install arena-ckpt[png]', or leave the picture out"
        ) from None


@functools.cache
def font_of(size: int) -> FreeTypeFont | ImageFont:
    """Return the font that comes with Pillow, in a size in pixels."""
    from PIL import ImageFont as fonts

    return fonts.load_default(size)


def png_bytes(image: Image) -> bytes:
    """Return a picture as a PNG."""
    file = io.BytesIO()
    # Told the format by name, newer Pillows load the writer of that format alone.
    file.name = "picture.png"
    image.save(file)
    return file.getvalue()
