"""Is a media file whole? What its outermost structure says of its size, read without a decoder.

A file that was cut short still opens where its index lies in front, and then decodes to a shorter clip. Its size tells:
MP4 and QuickTime boxes (ISO/IEC 14496-12), RIFF chunks (WAV, AVI) and Matroska segments (RFC 9559) declare theirs.
"""

from __future__ import annotations

from typing import IO


def declared_size(file: IO[bytes], size: int) -> int | None:
    """Bytes that the outermost structure of a container claims: MP4 boxes, RIFF, or Matroska.

    0 where the format does not tell; None where an MP4 file lacks its index.
    """
    head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"):
        return boxes_size(file, size)
    if head[:4] == b"RIFF" and head[8:] in (b"WAVE", b"AVI "):
        claimed = int.from_bytes(head[4:8], "little")
        return 8 + claimed if claimed < 0x7FFFF000 else 0  # streams are written with a placeholder
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return segment_size(file)
    return 0


def boxes_size(file: IO[bytes], size: int) -> int | None:
    """End of the last top-level box of an MP4 or QuickTime file; None without a `moov` box."""
    position, kinds = 0, set()
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:
            length = size - position  # "to the end of the file"
        if length < 8 or not kind.isalnum():
            break  # not a box: bytes after the end
        kinds.add(kind)
        position += length
    return position if b"moov" in kinds else None


def segment_size(file: IO[bytes]) -> int:
    """End of the segment of a Matroska or WebM file, 0 where it was written as a stream."""
    file.seek(4)
    header, start = ebml_number(file, 4)
    file.seek(start + header)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length, start = ebml_number(file, start + header + 4)
    return start + length if length >= 0 else 0


def ebml_number(file: IO[bytes], at: int) -> tuple[int, int]:
    """A variable-length number and the position after it; -1 where it stands for "unknown"."""
    file.seek(at)
    first = file.read(1)
    if not first or not first[0]:
        return -1, at
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return (value if value != (1 << 7 * length) - 1 else -1), at + length
