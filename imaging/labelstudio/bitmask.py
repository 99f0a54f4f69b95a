"""Bitmask regions: masks as PNG data URLs, exact to the pixel.

Label Studio draws such a mask black on transparent and shows whatever is not transparent, so the
mask is where alpha is above 127. A picture without transparency would cover everything and is
refused: most likely a script wrote the mask as black and white.
"""

import base64
import binascii
import io
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from imaging.errors import CodecError, GridMismatchError
from imaging.labelstudio.brush import OPAQUE

PREFIX = "data:image/png;base64,"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
SPARE_BYTES = 2**16  # what chunks around the pixels may take


def encode_bitmask(mask_HW: npt.NDArray[np.bool_]) -> str:
    """The mask as `value.imageDataURL`: a PNG, opaque black inside, transparent outside."""
    grey_alpha = np.zeros((*mask_HW.shape, 2), dtype=np.uint8)
    grey_alpha[..., 1] = mask_HW * np.uint8(255)
    png = io.BytesIO()
    Image.fromarray(grey_alpha, "LA").save(png, "PNG")
    return PREFIX + base64.b64encode(png.getvalue()).decode("ascii")


def decode_bitmask(url: object, shape_HW: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask in a `value.imageDataURL`.

    Args:
        url: what stands there, from anybody.
        shape_HW: rows and columns of the picture the mask must belong to.

    Returns:
        mask_HW, bool.

    Raises:
        CodecError: no PNG data URL, larger than such a mask can be, broken or without alpha.
        GridMismatchError: its header names another size; nothing was decoded.
    """
    png = _png_bytes(url, shape_HW)
    found = int.from_bytes(png[20:24], "big"), int.from_bytes(png[16:20], "big")
    if found != shape_HW:
        raise GridMismatchError(shape_HW, found)
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            # Of two IHDR chunks Pillow obeys the last, so the first alone proves nothing.
            if image.size != shape_HW[::-1]:
                raise GridMismatchError(shape_HW, image.size[::-1])
            if not image.has_transparency_data:
                raise CodecError("bitmask has no transparency: it would cover the whole picture")
            alpha_HW = np.asarray(image.convert("RGBA").getchannel("A"))
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise CodecError(f"bitmask is no readable PNG: {error}") from error
    mask: npt.NDArray[np.bool_] = alpha_HW > OPAQUE
    return mask


def _png_bytes(url: object, shape_HW: tuple[int, int]) -> bytes:
    if not isinstance(url, str) or not url.startswith(PREFIX):
        raise CodecError(f"imageDataURL is {url!r:.60}, expected {PREFIX}…")
    # Four bytes a pixel and a filter byte a row, should nothing have been compressible; deflate
    # adds less than a thousandth.
    most_bytes = shape_HW[0] * (4 * shape_HW[1] + 1) * 1001 // 1000 + SPARE_BYTES
    if len(url) > len(PREFIX) + most_bytes * 4 // 3 + 4:
        raise CodecError(f"imageDataURL has {len(url)} characters, too many for this picture")
    try:
        png = base64.b64decode(url[len(PREFIX) :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise CodecError(f"imageDataURL is not base64: {error}") from error
    if not png.startswith(SIGNATURE) or png[12:16] != b"IHDR" or len(png) < 33:
        raise CodecError("imageDataURL holds no PNG")
    return png
