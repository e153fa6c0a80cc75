"""Writing a file whole or not at all."""

import hashlib
import json
import os
import pathlib
from typing import Any

CHECKSUM = "checksum"  # in a note: that of all the rest


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Write a file so that it is there complete or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)  # of a process that was killed, or a link that leads elsewhere
    try:
        with open(part, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def write_note(path: pathlib.Path, value: dict) -> None:
    """Write a JSON object, whose names are words, with a checksum of itself, by which a reader
    knows that it is whole."""
    plain = {name: part for name, part in value.items() if name != CHECKSUM}
    write_json(path, {**plain, CHECKSUM: checksum(plain)})


def checksum(plain: dict) -> str:
    """SHA-256 of a JSON object, however it is laid out."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
