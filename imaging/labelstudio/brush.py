"""Brush regions: masks as Label Studio's run-length code, and back, with numpy.

The format is thi.ng's rle-pack over the flattened H×W×4 bytes of a canvas. It opens with 53 bits:
the number of bytes (32), the word size less one (5) and four run sizes less one (4 each). Then
follow runs: one bit for the kind (1 repeats one value, 0 lists values), two bits that choose a run
size, the length less one in that many bits, and the value or values. Only the fourth byte of each
pixel, alpha, is the mask; the browser antialiases strokes, so alpha may be anything from 0 to 255.

What comes in is not trusted: the size it claims is compared with the picture's before anything is
allocated, and every run must end inside the payload and the last one exactly with the picture.

Source: @thi.ng/rle-pack, and label_studio_sdk.converter.brush, whose output is met byte for byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imaging.errors import CodecError

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
WordArray = npt.NDArray[np.uint64]

CHANNELS = 4  # R, G, B, alpha
OPAQUE = 127  # alpha above this belongs to the mask
WORD_BITS = 8
RUN_BITS = (3, 4, 8, 16)
HEADER_BITS = 32 + 5 + 4 * len(RUN_BITS)
LONGEST_RUN = 2**16
MOST_BITS_PER_WORD = 3 + 16 + WORD_BITS  # a run for each byte of the canvas
REPEATS = 4  # the first of the three bits that open a run; the others choose its size
PADDING = bytes(8)  # so that a 64-bit window can be read at any byte of a payload
# Where runs may start is worked out for so much of a payload at a time: it fits a processor's
# cache, and a large payload does not multiply in memory.
BLOCK_BYTES = 2**15


def encode_rle(mask_HW: npt.NDArray[np.bool_] | ByteArray) -> list[int]:
    """The mask as the numbers of a brush region's `value.rle`.

    Args:
        mask_HW: bool, where True is written as alpha 255; or uint8, alpha as it is.

    Returns:
        The bytes that `label_studio_sdk.converter.brush.mask2rle` returns for that alpha.

    Raises:
        CodecError: the array is no mask: not H×W, empty, of another type, or of 2³⁰ pixels.
    """
    alpha = _flat_alpha(mask_HW)
    starts = np.append(0, np.flatnonzero(alpha[1:] != alpha[:-1]) + 1)
    lengths = np.diff(starts, append=alpha.size) * CHANNELS
    # The SDK chooses the run size before it splits: what is left of a long run keeps the widest.
    choice = np.searchsorted([2**bits for bits in RUN_BITS[:-1]], lengths)
    pieces = (lengths - 1) // LONGEST_RUN + 1
    choice, values = np.repeat(choice, pieces), np.repeat(alpha[starts], pieces)
    bits = np.array(RUN_BITS)[choice]
    lengths = _split_long(lengths, pieces)
    runs = ((((REPEATS | choice) << bits) | (lengths - 1)) << WORD_BITS) | values
    header = [alpha.size * CHANNELS, _format_code()]
    header_bits = [32, HEADER_BITS - 32]
    return list(
        _pack(np.concatenate([header, runs]), np.concatenate([header_bits, bits + 3 + WORD_BITS]))
    )


def decode_rle(rle: Sequence[int], shape_HW: tuple[int, int]) -> ByteArray:
    """The alpha channel of a brush region; the mask is where it is above 127.

    Args:
        rle: the list in `value.rle`, from a browser, a model or anybody.
        shape_HW: rows and columns of the picture the region must belong to.

    Returns:
        alpha_HW, uint8.

    Raises:
        CodecError: the payload is for another size, ends early, runs over the end, or is no RLE.
    """
    words = shape_HW[0] * shape_HW[1] * CHANNELS
    payload = _checked_payload(rle, words)
    run_bits = _checked_format(payload)
    end = len(payload) * 8
    payload += PADDING
    windows: WordArray = np.ndarray((len(payload) - 7,), dtype=">u8", buffer=payload, strides=(1,))
    starts = np.concatenate(list(_run_starts(payload, end, run_bits)))
    runs = _complete_runs(_read_runs(windows, starts, run_bits), words, end)
    return _alpha(runs, windows).reshape(shape_HW)


# --- encoding ---------------------------------------------------------------------------------


def _flat_alpha(mask_HW: npt.NDArray[np.bool_] | ByteArray) -> ByteArray:
    if mask_HW.ndim != 2 or not 0 < mask_HW.size * CHANNELS < 2**32:
        raise CodecError(f"mask has shape {mask_HW.shape}, expected H×W with 1 to 2³⁰ - 1 pixels")
    if mask_HW.dtype == np.bool_:
        return mask_HW.ravel().view(np.uint8) * np.uint8(255)
    if mask_HW.dtype == np.uint8:
        return mask_HW.ravel().view(np.uint8)
    raise CodecError(f"mask has type {mask_HW.dtype}, expected bool or uint8")


def _split_long(lengths: IntArray, pieces: IntArray) -> IntArray:
    """Each length in so many pieces: all of LONGEST_RUN but the last."""
    split = np.full(int(pieces.sum()), LONGEST_RUN)
    split[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * LONGEST_RUN
    return split


def _format_code() -> int:
    code = WORD_BITS - 1
    for bits in RUN_BITS:
        code = code << 4 | (bits - 1)
    return code


def _pack(codes: IntArray, code_bits: IntArray) -> bytes:
    """The codes, of at most 32 bits each, written one behind the other.

    Each code falls on one or two 32-bit words. Codes share words but never bits, so that adding
    up the parts that fall on a word puts it together; sums below 2³² are exact in float64.
    """
    ends = np.cumsum(code_bits)
    total = int(ends[-1])
    first = (ends - code_bits) >> 5
    pair = codes.astype(np.uint64) << (first * 32 + 64 - ends).astype(np.uint64)
    count = total // 32 + 2
    words = np.bincount(first, weights=pair >> np.uint64(32), minlength=count)
    words += np.bincount(first + 1, weights=pair & np.uint64(2**32 - 1), minlength=count)
    # The SDK appends a whole zero byte when the last bit ends a byte.
    return words.astype(">u4").tobytes()[: total // 8 + 1]


# --- decoding ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of a payload, in order."""

    lengths: IntArray  # words
    values: ByteArray  # what a repeating run repeats
    value_bits: IntArray  # position in the payload of the first value
    is_literal: npt.NDArray[np.bool_]

    def __getitem__(self, part: slice) -> "_Runs":
        return _Runs(
            self.lengths[part], self.values[part], self.value_bits[part], self.is_literal[part]
        )


def _checked_payload(rle: Sequence[int], words: int) -> bytes:
    """The list as bytes, once its length and the size it claims fit the picture."""
    if not isinstance(rle, list | tuple):
        raise CodecError(f"rle is {type(rle).__name__}, expected a list of numbers")
    longest = (HEADER_BITS + words * MOST_BITS_PER_WORD) // 8 + 2
    if not HEADER_BITS // 8 < len(rle) <= longest:
        raise CodecError(
            f"rle has {len(rle)} numbers, expected {HEADER_BITS // 8 + 1} to {longest}"
        )
    if set(map(type, rle)) != {int}:
        raise CodecError("rle holds something other than whole numbers")
    try:
        payload = bytes(rle)
    except ValueError as error:
        raise CodecError("rle holds numbers outside 0 to 255") from error
    claimed = int.from_bytes(payload[:4], "big")
    if claimed != words:
        raise CodecError(f"rle is for {claimed} bytes, expected {words}: rows × columns × 4")
    return payload


def _checked_format(payload: bytes) -> tuple[int, ...]:
    """The four run sizes in bits, from the header."""
    word_bits = _read_bits(payload, 32, 5) + 1
    if word_bits != WORD_BITS:
        raise CodecError(f"rle has words of {word_bits} bits, expected {WORD_BITS}")
    return tuple(_read_bits(payload, 37 + 4 * place, 4) + 1 for place in range(len(RUN_BITS)))


def _read_bits(payload: bytes, position: int, count: int) -> int:
    window = int.from_bytes(payload[position >> 3 : (position >> 3) + 4].ljust(4, b"\0"), "big")
    return window >> (32 - count - (position & 7)) & ((1 << count) - 1)


def _run_starts(payload: bytes, end: int, run_bits: tuple[int, ...]) -> Iterator[IntArray]:
    """Positions at which runs start, in bits, as long as the payload lasts.

    A run's start is known only once the one before has been read, so this is a loop over runs.
    To keep it short, numpy first notes for every bit of a block how long a repeating run would be
    if it started there, which three bits decide; the loop then only adds up. Literal runs, which
    browsers and models hardly write, are measured one by one.
    """
    repeating = [3 + bits + WORD_BITS for bits in run_bits]
    step_of_kind = np.array([0] * REPEATS + repeating, dtype=np.uint8)
    position = HEADER_BITS
    while position < end:
        block = position >> 3
        bits = np.unpackbits(np.frombuffer(payload[block : block + BLOCK_BYTES + 1], np.uint8))
        kinds = bits[:-8] << 2 | bits[1:-7] << 1 | bits[2:-6]
        steps = step_of_kind[kinds].tobytes()
        at, starts = position - block * 8, []
        limit = min(len(steps), end - block * 8)
        while at < limit:
            starts.append(at)
            at += steps[at] or _literal_bits(payload, block * 8 + at, run_bits)
        position = block * 8 + at
        yield np.array(starts) + block * 8


def _literal_bits(payload: bytes, position: int, run_bits: tuple[int, ...]) -> int:
    """How many bits a literal run that starts here takes."""
    bits = run_bits[_read_bits(payload, position + 1, 2)]
    return 3 + bits + (_read_bits(payload, position + 3, bits) + 1) * WORD_BITS


def _bits_at(windows: WordArray, positions: IntArray) -> WordArray:
    """At least 57 bits of the payload from each position on, at the top of 64."""
    bits: WordArray = windows[positions >> 3].astype(np.uint64)
    return bits << (positions & 7).astype(np.uint64)


def _read_runs(windows: WordArray, starts: IntArray, run_bits: tuple[int, ...]) -> _Runs:
    opening = _bits_at(windows, starts)
    kinds = (opening >> np.uint64(61)).astype(np.int64)
    bits = np.array(run_bits * 2, dtype=np.uint64)[kinds]
    behind_kind = opening << np.uint64(3)
    return _Runs(
        lengths=(behind_kind >> (np.uint64(64) - bits)).astype(np.int64) + 1,
        values=(behind_kind << bits >> np.uint64(64 - WORD_BITS)).astype(np.uint8),
        value_bits=starts + 3 + bits.astype(np.int64),
        is_literal=kinds < REPEATS,
    )


def _complete_runs(runs: _Runs, words: int, end: int) -> _Runs:
    """The runs that make up exactly `words` words; zero bits behind them fill the last byte."""
    ends = np.cumsum(runs.lengths)
    last = int(np.searchsorted(ends, words))
    if last == ends.size:
        raise CodecError(f"rle ends after {ends[-1]} of {words} bytes: it was cut off")
    if ends[last] != words:
        raise CodecError(f"rle has a run up to byte {ends[last]}, expected no more than {words}")
    values = int(runs.lengths[last]) if runs.is_literal[last] else 1
    if runs.value_bits[last] + values * WORD_BITS > end:
        raise CodecError("rle ends inside its last run: it was cut off")
    return runs[: last + 1]


def _alpha(runs: _Runs, windows: WordArray) -> ByteArray:
    """Every fourth word: pixel k's alpha is word 4k + 3, so words [a, b) hold [a // 4, b // 4)."""
    ends = np.cumsum(runs.lengths)
    first_pixels = (ends - runs.lengths) // CHANNELS
    counts = ends // CHANNELS - first_pixels
    alpha = np.repeat(runs.values, counts)
    literal = np.flatnonzero(runs.is_literal & (counts > 0))
    if literal.size:
        counts, first_pixels = counts[literal], first_pixels[literal]
        behind = np.cumsum(counts)
        pixels = np.arange(behind[-1]) + np.repeat(first_pixels - behind + counts, counts)
        zero_bits = runs.value_bits[literal] - (ends - runs.lengths)[literal] * WORD_BITS
        positions = np.repeat(zero_bits, counts) + (pixels * CHANNELS + 3) * WORD_BITS
        alpha[pixels] = _bits_at(windows, positions) >> np.uint64(64 - WORD_BITS)
    return alpha
