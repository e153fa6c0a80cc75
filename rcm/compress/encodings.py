"""How one kernel is written down, and read again to the bit (signs of zeros aside).

An encoding answers four questions, each with few words; every combination that a chain allows is
offered, and one is offered only if what is read back equals the kernel:

| question | words |
|---|---|
| which weights are written (`places`) | all, mask, gaps, pattern: see `places.py` |
| as what numbers (`numbers`) | float32, float16, bfloat16, integers on a `StoredGrid` |
| themselves, or indices into codebooks (`books`) | none, one for the tensor, one per channel |
| in what code (`code`) | plain (floats), packed, byte-aligned, Huffman: see `codes.py` |

The stream of a kernel is its parts in this order: steps (float32) and zero points (int16 or int32)
of its grids, places, codebooks, numbers (or indices). A weight is integer * step in float32, and
the integer is the written one minus the zero point, which for symmetric grids is known. A codebook
holds its values as they would be written themselves; one per channel is filled up to the longest.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rcm.compress import places
from rcm.compress.codes import CODES, every_code, width_of
from rcm.compress.integers import StoredGrid, grid_of

FLOATS = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": jnp.dtype("bfloat16"),
}
BOOKS = ("", "tensor", "channel")
LARGEST_BOOK = 2**16  # values; an index has two bytes at most


class Allowed(NamedTuple):
    """What a member's chain lets the encoder of a kernel rely on.

    pruned: many zeros; pattern: (n, m) if at most n of m neighbouring inputs are not zero, else
    (0, 0); books: `tensor`, `channel` or "", how far values are shared; numbers: what floats are
    written as; grid: of integers, or None.
    """

    pruned: bool = False
    pattern: tuple[int, int] = (0, 0)
    books: str = ""
    numbers: str = "float32"
    grid: StoredGrid | None = None


class Encoding(NamedTuple):
    """What a decoder must know besides the kernel's shape and bytes.

    width: of gaps, bits and how many codes there are; of a pattern, (n, m). written: numbers that
    are written. entries: length of each codebook, 0 for none.
    """

    places: str = "all"
    width: tuple[int, int] = (0, 0)
    written: int = 0
    numbers: str = "float32"
    grid: StoredGrid | None = None
    books: str = ""
    entries: int = 0
    code: str = "plain"

    def require_known(self) -> None:
        """Raise ValueError unless its words and numbers can be decoded."""
        one, other = self.width
        known = {
            "all": True,
            "mask": True,
            "gaps": one in places.GAP_WIDTHS,
            "pattern": 0 <= one <= other <= places.LARGEST_GROUP and other > 0,
        }
        coded = self.code in CODES if self.grid or self.books else self.code == "plain"
        numbers = self.numbers == "integers" if self.grid else self.numbers in FLOATS
        if not (known.get(self.places) and numbers and coded and self.books in BOOKS):
            raise ValueError(f"has an encoding that this version does not know: {tuple(self)}.")

    @property
    def name(self) -> str:
        """For people, such as `mask + codebook + 4-bit indices`."""
        bits = self.grid.bits if self.grid else 0
        words = [] if self.places == "all" else [self.places]
        if self.books:
            words.append("codebook" if self.books == "tensor" else "codebooks")
            bits = width_of(self.entries)
        code = self.numbers if self.code == "plain" else self.code
        code = f"{bits}-bit" if self.code == "packed" else code
        return " + ".join([*words, f"{code} indices" if self.books else code])


Parts = dict[str, bytes]  # by what they hold, in the order of the stream


def encode_kernel(kernel: np.ndarray, allowed: Allowed) -> list[tuple[Encoding, Parts]]:
    """Every encoding that `allowed` offers for a float32 kernel [.., channels], simplest first."""
    encoding, body, head = _numbers(kernel, allowed)
    found = []
    for placed, part, chosen in _placings(kernel, allowed, encoding):
        written = body[chosen]
        channels = np.flatnonzero(chosen) % kernel.shape[-1]
        placed = placed._replace(written=written.size)
        found += _write(placed, head | part, written, channels, kernel.shape[-1])
        if allowed.books:
            shared = placed._replace(books=allowed.books)
            found += _write_books(shared, head | part, written, channels, kernel.shape[-1])
    return found


def _numbers(kernel: np.ndarray, allowed: Allowed) -> tuple[Encoding, np.ndarray, Parts]:
    """(encoding of numbers, flat numbers, head) in the narrowest allowed form that is exact."""
    grid = allowed.grid
    if grid:
        found = grid_of(kernel, grid)
        if found:
            encoding = Encoding(numbers="integers", grid=grid)
            return encoding, found.integers.ravel(), found.parts
    with np.errstate(over="ignore"):
        narrow = kernel.astype(FLOATS[allowed.numbers]).astype(np.float32)
    exact = np.array_equal(narrow, kernel)
    return Encoding(numbers=allowed.numbers if exact else "float32"), kernel.ravel(), {}


def _placings(
    kernel: np.ndarray, allowed: Allowed, encoding: Encoding
) -> list[tuple[Encoding, Parts, np.ndarray]]:
    """(encoding, part, bool [n]: what is written) for every way to say where numbers stand."""
    nonzero = kernel != 0
    found = [(encoding, {}, np.ones(kernel.size, bool))]
    if not allowed.pruned:
        return found
    flat = nonzero.ravel()
    mask = places.write_mask(flat)
    found.append((encoding._replace(places="mask"), {"places": mask}, flat))
    bits, codes, gaps = places.write_gaps(flat)
    if len(gaps) < len(mask):
        gapped = encoding._replace(places="gaps", width=(bits, codes))
        found.append((gapped, {"places": gaps}, flat))
    n, m = allowed.pattern
    if m and kernel.ndim > 1 and kernel.shape[-2] % m == 0:
        chosen = places.fill_pattern(nonzero, n, m)
        if chosen is not None:
            ranks = places.write_pattern(chosen, n, m)
            patterned = encoding._replace(places="pattern", width=(n, m))
            found.append((patterned, {"places": ranks}, chosen.ravel()))
    return found


def _write(
    encoding: Encoding, head: Parts, values: np.ndarray, channels: np.ndarray, count: int
) -> list[tuple[Encoding, Parts]]:
    """The numbers themselves."""
    if encoding.grid is None:
        return [(encoding, {**head, "numbers": _floats(values, encoding)})]
    coded = every_code(values, encoding.grid.alphabet)
    return [(encoding._replace(code=c), {**head, "numbers": data}) for c, data in coded.items()]


def _write_books(
    encoding: Encoding, head: Parts, values: np.ndarray, channels: np.ndarray, count: int
) -> list[tuple[Encoding, Parts]]:
    """Codebooks, and indices into them; nothing where values are too many for a codebook."""
    owners = channels if encoding.books == "channel" else np.zeros_like(channels)
    lists, indices = [], np.zeros(values.size, np.int64)
    order = np.argsort(owners, kind="stable")
    ends = np.cumsum(np.bincount(owners, minlength=count if encoding.books == "channel" else 1))
    for members in np.split(order, ends[:-1]):
        book, indices[members] = np.unique(values[members], return_inverse=True)
        lists.append(book)
    entries = max(book.size for book in lists)
    if entries > LARGEST_BOOK:
        return []
    books = np.concatenate([np.resize(book, entries) for book in lists])  # repeats fill up
    encoding = encoding._replace(entries=entries)
    if encoding.grid is None:
        stored = _floats(books, encoding)
    else:
        stored = CODES["packed"].encode(books, encoding.grid.alphabet)
    head = {**head, "codebooks": stored}
    coded = every_code(indices, entries)
    return [(encoding._replace(code=c), {**head, "numbers": data}) for c, data in coded.items()]


def _floats(values: np.ndarray, encoding: Encoding) -> bytes:
    return values.astype(FLOATS[encoding.numbers]).tobytes()


class Reader:
    """Bytes taken from front to back; ValueError where there are too few."""

    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.place:
            raise ValueError(f"{len(self.data)} bytes that should be more.")
        self.place += size
        return self.data[self.place - size : self.place]

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.place)


def decode_kernel(data: bytes, shape: tuple[int, ...], encoding: Encoding) -> np.ndarray:
    """The float32 kernel of a stream. Raises ValueError for one that does not fit."""
    reader, size, channels = Reader(data), int(np.prod(shape)), shape[-1]
    grid = encoding.grid
    steps, zeros = grid.read(reader.take, channels) if grid else (None, None)
    chosen = _read_places(reader, shape, encoding)
    if np.count_nonzero(chosen) != encoding.written:
        raise ValueError(f"places of another number than {encoding.written} weights.")
    owners = np.flatnonzero(chosen) % channels
    if encoding.books:
        written = _read_books(reader, owners, channels, encoding)
    else:
        written = _read_numbers(reader.rest(), encoding.written, encoding)
    if grid and steps is not None and zeros is not None:
        which = owners if grid.per_channel else np.zeros_like(owners)
        written = (written - zeros[which]).astype(np.float32) * steps[which]
    kernel = np.zeros(size, np.float32)
    kernel[chosen] = written
    return kernel.reshape(shape)


def _read_places(reader: Reader, shape: tuple[int, ...], encoding: Encoding) -> np.ndarray:
    """bool [n], which weights are written."""
    size, (one, other) = int(np.prod(shape)), encoding.width
    if encoding.places == "mask":
        return places.read_mask(reader.take(-(-size // 8)), size)
    if encoding.places == "gaps":
        return places.read_gaps(reader.take(-(-one * other // 8)), one, other, size)
    if encoding.places == "pattern":
        if len(shape) < 2 or shape[-2] % other:
            raise ValueError(f"a pattern of groups of {other} on shape {shape}.")
        count = size // other * places.rank_bits(one, other)
        return places.read_pattern(reader.take(-(-count // 8)), one, other, shape).ravel()
    return np.ones(size, bool)


def _read_books(
    reader: Reader, owners: np.ndarray, channels: int, encoding: Encoding
) -> np.ndarray:
    """The values that the indices stand for, as they would be written themselves."""
    many = channels if encoding.books == "channel" else 1
    count, grid = many * encoding.entries, encoding.grid
    if grid is None:
        size = count * FLOATS[encoding.numbers].itemsize
    else:
        size = -(-count * width_of(grid.alphabet) // 8)
    plain = encoding._replace(code="packed" if grid else "plain")
    books = _read_numbers(reader.take(size), count, plain).reshape(many, encoding.entries)
    indices = CODES[encoding.code].decode(reader.rest(), encoding.written, encoding.entries)
    if indices.max(initial=0) >= max(encoding.entries, 1):
        raise ValueError(f"indices beyond the {encoding.entries} values of a codebook.")
    return books[owners if encoding.books == "channel" else np.zeros_like(owners), indices]


def _read_numbers(data: bytes, count: int, encoding: Encoding) -> np.ndarray:
    if encoding.grid:
        return CODES[encoding.code].decode(data, count, encoding.grid.alphabet)
    kind = FLOATS[encoding.numbers]
    if len(data) != count * kind.itemsize:
        raise ValueError(f"{len(data)} bytes where {count * kind.itemsize} are needed.")
    return np.frombuffer(data, kind).astype(np.float32)
