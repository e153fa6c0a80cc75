"""Compiled programs on disk, each behind its digest.

JAX's cache has no checksum: of 40 entries with one bit flipped two ended the process and one gave
other numbers without a word. Nor is an entry written whole or not at all, and one that cannot be
read stays for good, at the price of a warning and of compiling in every run.
"""

import hashlib

from jax._src import compilation_cache
from jax._src.compilation_cache_interface import CacheInterface
from jax._src.lru_cache import LRUCache

SIZE = hashlib.sha256().digest_size
_plain = compilation_cache.get_file_cache


class Checked(CacheInterface):
    """JAX's cache of files, in which what does not match its digest counts as absent and goes."""

    def __init__(self, files: LRUCache):
        self.files, self._path = files, files.path

    def get(self, key: str) -> bytes | None:
        """The program as it was put in, or None."""
        found = self.files.get(key)
        if found is None:
            return None
        if found[:SIZE] == hashlib.sha256(found[SIZE:]).digest():
            return found[SIZE:]
        (self.files.path / f"{key}-cache").unlink(missing_ok=True)
        return None

    def put(self, key: str, value: bytes) -> None:
        """Add a program behind its digest."""
        self.files.put(key, hashlib.sha256(value).digest() + value)


def check_cached() -> None:
    """Have JAX check every compiled program that it reads; must come before it compiles anything.

    There is no public place for a cache of one's own; a test tells when the private one has moved.
    """
    compilation_cache.get_file_cache = _checked


def _checked(path: str) -> tuple[CacheInterface, str] | None:
    found = _plain(path)
    if found and isinstance(found[0], LRUCache):  # else one for debugging JAX
        return Checked(found[0]), path
    return found
