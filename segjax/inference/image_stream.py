"""Images one behind the other in a stream, such as what `ffmpeg -f image2pipe` writes.

Only their ends are looked for here, so that threads can decode them:

- PNG, by its chunks (Portable Network Graphics, second edition, W3C 2003, 5.3);
- JPEG, by its markers (ITU-T T.81, annex B). What a camera appends by the
  Multi-Picture Format (CIPA DC-007), such as a preview or a gain map, belongs to it;
- binary PBM, PGM and PPM (`P4`, `P5`, `P6`), by the size in their header.

An image of another kind has no end that would be so easily found: it stands alone.
"""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from segjax.errors import InputError

MAX_BYTES = 2**30
"""An image of more bytes is refused, so that memory stays bounded."""

_PNG = b"\x89PNG\r\n\x1a\n"
# First bytes of what Pillow reads, and of videos.
_ALONE = re.compile(
    rb"GIF8|BM|II[*+]\0|MM\0[*+]|P[1-3]\s|RIFF....WEBP|....ftyp(avi[fs]|mif1|msf1)|"
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51|qoif",
    re.DOTALL,
)
_VIDEO = re.compile(
    rb"....ftyp|....moov|....mdat|\x1a\x45\xdf\xa3|RIFF....AVI |YUV4MPEG2|FLV\x01|"
    rb"OggS|\0\0\x01\xba|\0\0\x01\xb3|0\x26\xb2\x75",
    re.DOTALL,
)
# Not a stuffed zero, not a restart, not a fill byte (which another 0xff follows).
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


def split_images(file: BinaryIO, *, source: str) -> Iterator[bytes]:
    """Splits a stream into its images, reading no further than each of them.

    Args:
      file: buffered binary file (with `read1`); need not be seekable.
      source: name for the error message.

    Yields:
      The bytes of each image. They are not decoded: that they are one is not sure.

    Raises:
      InputError: no bytes at all; neither the kinds above nor another image; cut off
        within an image; an image of more than `MAX_BYTES`; a read error.
    """
    stream = _Stream(file, source)
    if not stream.peek(1):
        raise InputError(f"{source}: is empty; expected an image, or several in a row")
    count = 0
    while start := stream.peek(12):
        where = f"{source}: image {count}"
        try:
            yield _one_image(stream, start, count, where)
        except _CutOffError as error:
            raise InputError(f"{where} is cut off or damaged") from error
        except OverflowError as error:
            raise InputError(f"{where} has more than {MAX_BYTES} bytes") from error
        count += 1


def _one_image(stream, start, count, where):
    if start.startswith(_PNG):
        return _png(stream)
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg(stream)
    if re.match(rb"P[4-6]\s", start):
        return _portable_map(stream)
    if count == 0 and _ALONE.match(start):
        return stream.take_rest()
    if count == 0 and _VIDEO.match(start):
        raise InputError(
            f"{where} is a video; give it as a file, or its frames: "
            "ffmpeg -i VIDEO -f image2pipe -c:v ppm -"
        )
    raise InputError(
        f"{where} starts with {start[:8]!r}; expected PNG, JPEG or binary PPM"
        + ("" if count else ", or one image of another kind")
    )


class _CutOffError(Exception):
    """The stream ended within an image, or its parts make no sense."""


class _Stream:
    """Bytes in order, with a look ahead; `read1` waits for no more than there is."""

    def __init__(self, file: BinaryIO, source: str):
        self._file = file
        self._source = source
        self._held = bytearray()

    def _fill(self) -> bool:
        try:
            more = self._file.read1(2**16)
        except OSError as error:
            raise InputError(
                f"{self._source}: cannot be read: {error.strerror}"
            ) from error
        self._held += more
        return bool(more)

    def peek(self, count: int) -> bytes:
        while len(self._held) < count and self._fill():
            pass
        return bytes(self._held[:count])

    def take(self, count: int, onto: bytearray) -> bytes:
        """Moves exactly `count` bytes."""
        if len(onto) + count > MAX_BYTES:
            raise OverflowError
        first = len(onto)
        while count:
            if not self._held and not self._fill():
                raise _CutOffError
            part = self._held[:count]
            del self._held[: len(part)]
            onto += part
            count -= len(part)
        return bytes(onto[first:])

    def take_until(self, pattern: re.Pattern, onto: bytearray) -> None:
        """Moves everything before the first match, which is two bytes long."""
        while not (match := pattern.search(self._held)):
            # The last byte may be the first one of a match.
            self.take(max(len(self._held) - 1, 0), onto)
            if not self._fill():
                raise _CutOffError
        self.take(match.start(), onto)

    def take_rest(self) -> bytes:
        rest = bytearray()
        while self._held or self._fill():
            self.take(len(self._held), rest)
        return bytes(rest)


def _png(stream: _Stream) -> bytes:
    image = bytearray()
    stream.take(len(_PNG), image)
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", stream.take(8, image))
        # The chunk and its checksum.
        stream.take(length + 4, image)
    return bytes(image)


def _jpeg(stream: _Stream) -> bytes:
    image = bytearray()
    stream.take(2, image)
    end = 0
    while (code := _jpeg_marker(stream, image)) != 0xD9:  # end of image
        if code in (0x00, 0xD8) or 0xD0 <= code <= 0xD7:
            raise _CutOffError
        (length,) = struct.unpack(">H", stream.take(2, image))
        segment = stream.take(max(length, 2) - 2, image)
        if code == 0xE2 and segment.startswith(b"MPF\0"):
            start = len(image) - len(segment) + 4
            end = start + _multi_picture_size(segment[4:])
        if code == 0xDA:  # start of scan: coded data up to the next marker
            stream.take_until(_JPEG_MARKER, image)
    # What was appended may be gone at the end of the stream: it is not looked at.
    if end > len(image) and stream.peek(1):
        stream.take(end - len(image), image)
    return bytes(image)


def _jpeg_marker(stream, image) -> int:
    if stream.take(1, image) != b"\xff":
        raise _CutOffError
    while (code := stream.take(1, image)) == b"\xff":
        pass
    return code[0]


def _multi_picture_size(data: bytes) -> int:
    """Bytes from a Multi-Picture Format header to the end of its last picture."""
    order = "<" if data.startswith(b"II") else ">"
    try:
        (offset,) = struct.unpack_from(f"{order}4xI", data)
        (entries,) = struct.unpack_from(f"{order}H", data, offset)
        for index in range(entries):
            tag, _, size, at = struct.unpack_from(
                f"{order}HHII", data, offset + 2 + 12 * index
            )
            if tag == 0xB002:  # list of the pictures: attributes, size, offset, 2 links
                pictures = struct.iter_unpack(f"{order}IIIHH", data[at : at + size])
                # The first picture's own offset is 0 and counts from elsewhere.
                return max((at + size for _, size, at, *_ in pictures if at), default=0)
    except struct.error:
        pass
    return 0


def _portable_map(stream: _Stream) -> bytes:
    image = bytearray()
    kind = stream.take(2, image)
    width, height = _number(stream, image), _number(stream, image)
    if kind == b"P4":
        row = -(-width // 8)
    else:
        row = width * {b"P5": 1, b"P6": 3}[kind]
        row *= 1 if _number(stream, image) < 256 else 2
    stream.take(row * height, image)
    return bytes(image)


def _number(stream, image) -> int:
    """A number of a Netpbm header and the one white space behind it."""
    digits = b""
    while len(digits) < 10:
        byte = stream.take(1, image)
        if byte.isdigit():
            digits += byte
        elif byte == b"#":
            while stream.take(1, image) != b"\n":
                pass
        elif not byte.isspace():
            break
        elif digits:
            return int(digits)
    raise _CutOffError
