"""Video files that are readable by exact frame number, as clips of training need them.

A video is indexed once by demuxing (no decoding); see `video_io.reading`. A read decodes from the
key frame before the wanted frame; one that continues where the last one ended does not seek.
OpenCV's seeking is not exact for variable frame rates and B-frames, so it is not used.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from typing import Any

import av

from video_pose.video_io.reading import (
    VideoIndex,
    choose_stream,
    open_video,
    pixel_aspect,
    read_index,
)


class VideoFile:
    """One open video, readable by frame number.

    Numbers count the frames in display order from 0, which is the order in which a decoder puts
    them out. Where a packet has no timestamp, or two have the same, frames are counted by decoding
    from the start.

    Attributes:
        index: of its packets. aspect: of its stored pixels, see `pixel_aspect`.
    """

    def __init__(self, path: str, index: VideoIndex | None = None) -> None:
        """Open ``path``, and index it unless its ``index`` is known.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no video that can be read.
        """
        self.path = path
        self._seek_by_decode_stamp = False
        self._wanted = 0
        # Frames whose packets were decoded and that are not out yet.
        self._fed: set[int | None] = set()
        self._open(say=index is None)
        self.aspect = pixel_aspect(self._stream)
        if index is None:
            try:
                index = self._read_index()
            except BaseException:
                self._container.close()
                raise
            self._restart()
        self.index = index
        self._count = None if index.stamps is None else len(index.stamps)

    def _open(self, say: bool = False) -> None:
        self._container: Any = open_video(self.path)
        try:
            self._stream = choose_stream(self._container, say)
        except ValueError:
            self._container.close()
            raise
        # A loader runs one worker a core; frame threads would only delay the output.
        self._stream.codec_context.thread_count = 1
        self._frames: Iterator[av.VideoFrame] | None = None
        self._next = 0
        self._damage_ahead = False
        self._at_start = True

    def _read_index(self) -> VideoIndex:
        return read_index(self._container, self._stream)

    def _restart(self) -> None:
        self._container.close()
        self._open()

    def __len__(self) -> int:
        """Number of frames; decodes the file once where packets do not tell."""
        if self._count is None:
            self._restart()
            try:
                self._count = sum(1 for _ in self._container.decode(self._stream))
            except av.error.FFmpegError as error:
                raise ValueError(f"cannot count the frames of {self.path}: {error}") from error
            self._restart()
        return self._count

    def close(self) -> None:
        self._container.close()

    def decode_frame(self, wanted: int) -> av.VideoFrame:
        """The frame of number ``wanted``; the next call reads on from there without a seek.

        Raises:
            ValueError: the video has no such frame, or its data are damaged.
        """
        if wanted < 0 or (self._count is not None and wanted >= self._count):
            raise ValueError(f"{self.path} has no frame {wanted} (frames: {self._count})")
        self._wanted = wanted
        first = self._seek(wanted)
        number = -1
        while number != wanted:
            try:
                number, frame = self._decode()
            except (StopIteration, av.error.FFmpegError) as error:
                self._frames = None
                why = str(error) or "the data end before it"
                raise ValueError(f"cannot decode frame {wanted} of {self.path}: {why}") from error
            if number > wanted and self._damage_ahead and wanted in self._fed:
                continue  # a decoder that met damage puts out some frames late
            # Frames shown before the key frame that decoding began at may lack their references.
            if number > wanted or (number >= first and frame.is_corrupt):
                self._frames = None
                lost = min(number, wanted)
                raise ValueError(f"frame {lost} of {self.path} is missing or damaged")
        if self._damage_ahead:
            self._frames = None
        return frame

    def _decode(self) -> tuple[int, av.VideoFrame]:
        assert self._frames is not None, self.path
        frame = next(self._frames)
        number = self._next
        if self.index.stamps is not None:
            found = self.index.number(frame.pts)
            if found is None:
                raise ValueError(f"{self.path}: no packet has the timestamp {frame.pts} of a frame")
            number = found
        self._next = number + 1
        return number, frame

    def _seek(self, wanted: int) -> int:
        """Place the decoder before ``wanted``; returns the first frame that is whole from there."""
        going_on = self._frames is not None and self._next <= wanted
        at = self._key_before(wanted)
        if going_on and (at < 0 or self.index.keys[at][0] <= self._next):
            return 0
        return self._seek_to_key(at)

    def _key_before(self, number: int) -> int:
        return bisect.bisect_right(self.index.keys, number, key=lambda key: key[0]) - 1

    def _seek_to_key(self, at: int) -> int:
        first, packets = 0, None
        while packets is None and at > 0:
            first, packets = self.index.keys[at][0], self._packets_from_key(at)
            at -= 1
        if packets is None:
            # The start of the file needs no index that a broken file may lack.
            if not self._at_start:
                self._restart()
            first, packets = 0, self._container.demux(self._stream)
        self._at_start = False
        self._next = first
        self._damage_ahead = False
        self._frames = self._decode_packets(packets)
        return first

    def _packets_from_key(self, at: int) -> Iterator[av.Packet] | None:
        """Packets from key frame ``at`` on; None where no seek of the container leads to it.

        MP4 and Matroska seek by the time at which a frame is shown, other containers by that at
        which it is decoded. A seek that lands early costs no decoding: packets before the key
        frame are passed over.
        """
        stamp, decode_stamp = self.index.keys[at][1], self.index.decode_stamps[at]
        early = stamp if decode_stamp is None else min(stamp, decode_stamp)
        for target in [early] if self._seek_by_decode_stamp else [stamp, early]:
            try:
                self._container.seek(target, stream=self._stream, backward=True)
                packets = self._container.demux(self._stream)
                for packet in packets:
                    if packet.pts == stamp:
                        return itertools.chain([packet], packets)
                    if decode_stamp is None or packet.dts is None or packet.dts > decode_stamp:
                        break  # too late
            except av.error.FFmpegError:
                pass
            self._seek_by_decode_stamp = True
        return None

    def _decode_packets(self, packets: Iterator[av.Packet]) -> Iterator[av.VideoFrame]:
        """Frames of packets.

        A decoder takes some more packets before it puts out a frame. Damage in those that come
        after the wanted frame's own is not its damage, but ends the reading on.
        """
        self._fed = fed = set()
        for packet in packets:
            number = self.index.number(packet.pts)
            if number is not None:
                fed.add(number)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                if number == self._wanted or self._wanted not in fed:
                    raise
                self._damage_ahead = True
                continue
            fed.difference_update(self.index.number(frame.pts) for frame in frames)
            yield from frames
