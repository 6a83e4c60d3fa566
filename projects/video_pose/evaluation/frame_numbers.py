"""Which annotated frame of a video is meant by a number that its predictions have.

Predictions of this project count the frames of a video from 0. Those of others, read from COCO's or
PoseTrack's files, have the numbers of such a file. So one rule serves both:

* an annotated frame has the number ``frame_index``, where all images of the video have one;
* else its place, from 0, among the video's images in order of ``frame_id`` (of ``id``, where some
  lack it);
* where one of the predicted numbers is a ``frame_index``, all are taken for that. What else they
  may be, a ``frame_id`` or places, is said;
* where none is, and where there are places alone, they are taken for ``frame_id`` if more of them
  are one than a place. So they are where as many are, if ``frame_id`` has gaps and the predictions
  have all of these frames and more than the file lists: then it lists some frames of a whole video;
* predictions of just the frames 0 to N - 1, of a file that lists N frames by ``frame_index``, and
  none of which is such a number or a ``frame_id``, are of its images in their order: of a clip that
  was cut out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from video_pose.data.datasets.coco_json import read_video
from video_pose.data.json_fields import Field, require_unique


@dataclass(frozen=True)
class VideoFrames:
    """The frames of a video that a file of annotations lists.

    Attributes:
        numbers: of the frames, ascending: ``frame_index`` or places.
        by_index: whether they are ``frame_index``.
        frame_ids: ``frame_id`` -> number; empty where an image has none, or two have the same.
    """

    numbers: tuple[int, ...]
    by_index: bool
    frame_ids: Mapping[int, int]

    def __str__(self) -> str:
        """Which numbers there are: "frame_index 0 to 9", and ``frame_id`` likewise."""
        first, last, ids = self.numbers[0], self.numbers[-1], self.frame_ids
        kind = "frame_index" if self.by_index else "places"
        more = f" (frame_id {min(ids)} to {max(ids)})" if ids else ""
        return f"{kind} {first} to {last}{more}"

    def match(self, predicted: Collection[int]) -> tuple[Mapping[int, int], str]:
        """What is meant by the numbers of a video's predictions.

        Args:
            predicted: all of them.

        Returns:
            number in the predictions -> number of the frame, of all frames; and what is to be said
            about the choice, "" where there is nothing.
        """
        given, places = set(predicted), dict(enumerate(self.numbers))
        own = {number: number for number in self.numbers}
        fits, fits_ids = len(given & own.keys()), len(given & self.frame_ids.keys())
        if self.by_index and fits:
            return own, self._doubt(given, fits, fits_ids)
        if self.by_index and not fits_ids and given == places.keys():
            return places, (
                f"the predictions' frames {min(given)} to {max(given)} are taken for places among "
                f"the images, of frame_index {self.numbers[0]} to {self.numbers[-1]}"
            )
        gaps = self._has_gaps()
        is_part = gaps and given >= self.frame_ids.keys() and max(given) >= len(own)
        if fits_ids > fits or (fits_ids == fits > 0 and is_part):
            return self.frame_ids, "the predictions' frames are taken for frame_id"
        if self.by_index:
            return own, ""
        if gaps:
            return own, (
                "frame_id has gaps: frames are taken by their place among the images, from 0; give "
                "frame_index where they have other numbers in the video"
            )
        differs = any(self.frame_ids.get(number, number) != number for number in given)
        if fits_ids == fits and differs:
            return own, (
                "the predictions' frames may be frame_id as well: taken for places among the "
                "images, from 0"
            )
        return own, ""

    def _doubt(self, given: Collection[int], fits: int, fits_ids: int) -> str:
        """What else numbers may be that are taken for ``frame_index``, as ``fits`` are; or ""."""
        taken = (
            f"the predictions' frames {min(given)} to {max(given)} are taken for frame_index, as "
            f"{fits} of {len(given)} are, from {self.numbers[0]} to {self.numbers[-1]}"
        )
        if fits_ids > fits:
            return f"{taken}; {fits_ids} are a frame_id"
        if fits < len(given) and set(given) == set(range(len(self.numbers))):
            return f"{taken}; they may be places among the images, from 0"
        if self.numbers[0] == 1 and 0 in given:
            return "frame_index begins at 1: taken for a count from 0"
        return ""

    def _has_gaps(self) -> bool:
        ids = self.frame_ids
        return len(ids) > 0 and max(ids) - min(ids) >= len(ids)


def number_frames(
    images: Sequence[Field],
) -> tuple[dict[int, tuple[str, int]], dict[str, VideoFrames]]:
    """The video and the frame's number of every image id; and the frames of every video.

    Raises:
        ValueError: an id that is no whole number, or that two images have; an image of no video;
            two frames of a video with one number. Names file and place.
    """
    ids = [image.need("id") for image in images]
    require_unique(ids, "its own whole-number id")
    videos: dict[str, list[Field]] = {}
    for image in images:
        video = read_video(image)
        if video is None:
            raise ValueError(
                f"{image.file}: image {image.need('id').value} has no video_id (nor vid_id)"
            )
        videos.setdefault(video.identity(), []).append(image)
    numbers, frames = {}, {}
    for video_id, members in videos.items():
        found, frames[video_id] = _number_video(video_id, members)
        for image, number in zip(members, found, strict=True):
            numbers[image.need("id").number_id()] = (video_id, number)
    return numbers, frames


def _number_video(video_id: str, members: Sequence[Field]) -> tuple[list[int], VideoFrames]:
    """The number of each image, and the video's frames."""
    indices, frame_ids = _values(members, "frame_index"), _values(members, "frame_id")
    order = frame_ids or [image.need("id").number_id() for image in members]
    places = {number: place for place, number in enumerate(sorted(order))}
    found = indices or [places[number] for number in order]
    if len(set(found)) != len(found):
        raise ValueError(
            f"{members[0].file}: two images of video {video_id!r} have one frame_index, or one "
            "frame_id"
        )
    own = dict(zip(frame_ids, found, strict=True)) if frame_ids else {}
    is_own = len(own) == len(found)
    return found, VideoFrames(tuple(sorted(found)), bool(indices), own if is_own else {})


def _values(images: Sequence[Field], key: str) -> list[int]:
    """A key of all images; nothing where one lacks it."""
    given = [image.get(key) for image in images]
    return [] if None in given else [item.number_id() for item in given if item is not None]
