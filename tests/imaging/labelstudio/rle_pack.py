"""The encoder of the browser, @thi.ng/rle-pack 3, line by line and slow: it writes literal runs."""

from collections.abc import Sequence


def browser_encode(  # noqa: C901 - kept in one piece, like what it copies
    words: Sequence[int], word_bits: int = 8, run_bits: Sequence[int] = (3, 4, 8, 16)
) -> list[int]:
    bits = [f"{len(words):032b}", f"{word_bits - 1:05b}"] + [f"{size - 1:04b}" for size in run_bits]
    chunk: list[int] = []

    def size_of(count_less_one: int) -> int:
        return next(place for place, size in enumerate(run_bits) if count_less_one < 1 << size)

    def write_run(value: int, repeats: int) -> None:
        size = size_of(repeats)
        bits.append(f"1{size:02b}{repeats:0{run_bits[size]}b}{value:0{word_bits}b}")

    def write_chunk() -> None:
        size = size_of(len(chunk) - 1)
        bits.append(f"0{size:02b}{len(chunk) - 1:0{run_bits[size]}b}")
        bits.extend(f"{value:0{word_bits}b}" for value in chunk)
        chunk.clear()

    value, repeats, tail = words[0], 0, True
    for place, word in enumerate(words[1:], start=1):
        if word != value:
            if repeats > 0:
                write_run(value, repeats)
                repeats = 0
            else:
                chunk.append(value)
                if len(chunk) == 1 << run_bits[3]:
                    write_chunk()
            value = word
        else:
            if chunk:
                write_chunk()
            repeats += 1
            if repeats == 1 << run_bits[3]:
                write_run(value, repeats - 1)
                repeats = 0
                tail = place < len(words) - 1
    if chunk:
        chunk.append(value)
        write_chunk()
    elif tail:
        write_run(value, repeats)
    stream = "".join(bits)
    return [int(stream[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(stream), 8)]
