"""Lossless codes for sequences of small non-negative integers: fixed width, whole bytes, Huffman.

Host side, numpy. Every decoder takes the count from outside, uses all bytes that it is given and
raises ValueError where they are too few or too many.

A Huffman stream (Huffman 1952) is the code length of every symbol of the alphabet, 6 bits each (0:
not used), padded to whole bytes, then the codes without gaps. Codes are canonical (Schwartz &
Kallick 1964): ordered by length, then by symbol, so that the lengths alone define them.
"""

import heapq
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LENGTH_BITS = 6  # of a stored Huffman code length
LONGEST = 56  # bits of a code that a decoder's 64-bit window holds at any bit offset
LARGEST_ALPHABET = 1024  # symbols that a Huffman code is tried for; tables of more eat the gain


class Code(NamedTuple):
    """encode(values, alphabet) -> bytes; decode(bytes, count, alphabet) -> int64 [count].

    values: integers [count] in 0 .. alphabet - 1.
    """

    encode: Callable[[np.ndarray, int], bytes]
    decode: Callable[[bytes, int, int], np.ndarray]


def width_of(alphabet: int) -> int:
    """Bits of a fixed-width symbol; 0 where there is only one."""
    return max(int(alphabet) - 1, 0).bit_length()


def pack_bits(values: np.ndarray, bits: int) -> bytes:
    """Non-negative integers below 2^bits, most significant bit first, without gaps."""
    columns = np.empty((len(values), bits), np.uint8)
    for i in range(bits):
        columns[:, i] = (values >> (bits - 1 - i)) & 1
    return np.packbits(columns).tobytes()


def unpack_bits(data: bytes, bits: int, count: int) -> np.ndarray:
    """The inverse of `pack_bits`: int64 [count]. Raises ValueError for another number of bytes."""
    _require_length(data, -(-count * bits // 8))
    columns = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits).reshape(count, bits)
    values = np.zeros(count, np.int64)
    for i in range(bits):
        values = values << 1 | columns[:, i]
    return values


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Length of every symbol's Huffman code, int [alphabet], 0 where counts is 0.

    A single used symbol gets length 1, so that its count can be told from its stream.
    """
    used = np.flatnonzero(counts)
    if used.size == 1:
        return (np.asarray(counts) > 0).astype(np.int64)
    heap: list[tuple[int, int, tuple[int, ...]]]
    heap = [(int(counts[symbol]), i, (int(symbol),)) for i, symbol in enumerate(used)]
    lengths = np.zeros(len(counts), np.int64)
    heapq.heapify(heap)
    for order in range(len(heap), 2 * len(heap) - 1):
        (less, _, one), (more, _, other) = heapq.heappop(heap), heapq.heappop(heap)
        joined = one + other
        lengths[list(joined)] += 1
        heapq.heappush(heap, (less + more, order, joined))
    return lengths


def canonical_codes(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(symbols in code order, their codes uint64) of canonical code lengths.

    Raises ValueError for lengths that no prefix code has (Kraft's inequality).
    """
    symbols = np.flatnonzero(lengths)
    symbols = symbols[np.argsort(lengths[symbols], kind="stable")]
    code, previous, codes = 0, 0, []
    for length in lengths[symbols].tolist():
        code <<= length - previous
        if code >> length or length > LONGEST:
            raise ValueError("Huffman code lengths that no code has.")
        codes.append(code)
        code, previous = code + 1, length
    return symbols, np.array(codes, np.uint64)


def huffman_encode(values: np.ndarray, alphabet: int) -> bytes:
    """Code lengths, then canonical codes; see the module."""
    lengths = code_lengths(np.bincount(values, minlength=alphabet))
    symbols, codes = canonical_codes(lengths)
    by_symbol = np.zeros(alphabet, np.uint64)
    by_symbol[symbols] = codes
    each, code = lengths[values], by_symbol[values]
    starts = np.cumsum(each) - each
    bits = np.zeros(int(each.sum()), np.uint8)
    for i in range(int(lengths.max(initial=0))):
        longer = each > i
        left = (each[longer] - 1 - i).astype(np.uint64)
        bits[starts[longer] + i] = (code[longer] >> left) & np.uint64(1)
    return pack_bits(lengths, LENGTH_BITS) + np.packbits(bits).tobytes()


def huffman_decode(data: bytes, count: int, alphabet: int) -> np.ndarray:
    """The inverse of `huffman_encode`.

    What code would begin at every bit is looked up at once; then the codes are followed.
    """
    table = -(-alphabet * LENGTH_BITS // 8)
    lengths = unpack_bits(data[:table], LENGTH_BITS, alphabet)
    symbols, codes = canonical_codes(lengths)
    body = data[table:]
    if count == 0 or symbols.size == 0:
        _require(count == 0 and not body, "an empty Huffman code with values.")
        return np.zeros(0, np.int64)
    ranks = _ranks_at_every_bit(body, codes, lengths[symbols])
    steps = lengths[symbols][ranks].tolist()
    places, place = [], 0
    for _ in range(count):
        _require(place < len(steps), "a Huffman code that ends before its values.")
        places.append(place)
        place += steps[place]
    _require(-(-place // 8) == len(body), "a Huffman code with bytes behind its values.")
    return symbols[ranks[places]]


def _ranks_at_every_bit(body: bytes, codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The place in code order of the code that begins at each bit, intp [8 * len(body)]."""
    longest = int(lengths[-1])
    first = codes << (longest - lengths).astype(np.uint64)  # left-aligned codes ascend
    padded = np.frombuffer(body + bytes(8), np.uint8).astype(np.uint64)
    windows = np.zeros(len(body), np.uint64)
    for i in range(8):
        windows = windows << np.uint64(8) | padded[i : i + len(body)]
    ranks = np.empty((len(body), 8), np.uint16)
    for offset in range(8):
        aligned = (windows << np.uint64(offset)) >> np.uint64(64 - longest)
        ranks[:, offset] = np.searchsorted(first, aligned, side="right") - 1
    return ranks.ravel()


def _packed(values: np.ndarray, alphabet: int) -> bytes:
    return pack_bits(values, width_of(alphabet))


def _unpacked(data: bytes, count: int, alphabet: int) -> np.ndarray:
    return unpack_bits(data, width_of(alphabet), count)


def _aligned(values: np.ndarray, alphabet: int) -> bytes:
    return values.astype("<u1" if alphabet <= 256 else "<u2").tobytes()


def _from_aligned(data: bytes, count: int, alphabet: int) -> np.ndarray:
    kind = np.dtype("<u1" if alphabet <= 256 else "<u2")
    _require_length(data, count * kind.itemsize)
    return np.frombuffer(data, kind).astype(np.int64)


CODES = {
    "packed": Code(_packed, _unpacked),
    "byte-aligned": Code(_aligned, _from_aligned),
    "Huffman": Code(huffman_encode, huffman_decode),
}


def every_code(values: np.ndarray, alphabet: int) -> dict[str, bytes]:
    """The values in every code of `CODES` that is worth trying, by name."""
    tried = ["packed", "byte-aligned"]
    if values.size and alphabet <= LARGEST_ALPHABET:
        tried.append("Huffman")
    return {name: CODES[name].encode(values, alphabet) for name in tried}


def _require_length(data: bytes, expected: int) -> None:
    _require(len(data) == expected, f"{len(data)} bytes where {expected} are needed.")


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)
