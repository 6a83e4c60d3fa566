"""Which annotated frame a predicted number means, by hand for each kind of file."""

from __future__ import annotations

import pytest

from video_pose.data.json_fields import Field
from video_pose.evaluation.frame_numbers import VideoFrames, number_frames


def frames(**numbers: list[int]) -> VideoFrames:
    """Of one video; the lists are keys of its images, in the file's order."""
    count = len(next(iter(numbers.values())))
    images = [
        {"id": 50 - n, "video_id": "v", **{key: values[n] for key, values in numbers.items()}}
        for n in range(count)
    ]
    return number_frames(list(Field(images, "a.json").items()))[1]["v"]


OFFICIAL = [10003420000 + n for n in range(5)]
PLACES = {n: n for n in range(5)}
FROM_1 = {n + 1: n for n in range(5)}
INDEX = "taken for places among the images, of frame_index"
GAPS = "frame_id has gaps: frames are taken by their place"
MAYBE = "; they may be places among the images, from 0"
TAKEN = "the predictions' frames are taken for frame_id"


@pytest.mark.parametrize(
    ("keys", "predicted", "meant", "said"),
    [
        # The numbers of a file without gaps are those of our predictions, from 0 on.
        ({"frame_index": [0, 1, 2, 3, 4]}, range(5), PLACES, ""),
        ({"frame_id": [0, 1, 2, 3, 4]}, range(5), PLACES, ""),
        ({"frame_id": [2, 0, 1, 4, 3]}, range(3), PLACES, ""),
        ({"frame_index": [7, 9]}, range(20), {7: 7, 9: 9}, ""),
        # PoseTrack's own numbers: ours are places, another's file has the same numbers.
        ({"frame_id": OFFICIAL}, range(5), PLACES, ""),
        ({"frame_id": OFFICIAL}, OFFICIAL, dict(zip(OFFICIAL, range(5))), TAKEN),
        ({"frame_id": OFFICIAL[::-1]}, OFFICIAL[:1], dict(zip(OFFICIAL, range(5))), TAKEN),
        ({"frame_id": OFFICIAL, "frame_index": [4, 3, 2, 1, 0]}, OFFICIAL,
         dict(zip(OFFICIAL, range(4, -1, -1))), TAKEN),
        # From 1: told by the frame that only one of the two has.
        ({"frame_id": [1, 2, 3, 4, 5]}, range(5), PLACES, ""),
        ({"frame_id": [1, 2, 3, 4, 5]}, range(6), PLACES, "may be frame_id as well: taken for"),
        ({"frame_id": [1, 2, 3, 4, 5]}, range(1, 6), FROM_1, TAKEN),
        ({"frame_id": [1, 2, 3, 4, 5]}, [2, 3], PLACES, "may be frame_id as well: taken for"),
        ({"frame_index": [1, 2, 3, 4, 5]}, range(5), {n: n for n in range(1, 6)}, MAYBE),
        ({"frame_index": [1, 2, 3, 4, 5]}, range(1, 6), {n: n for n in range(1, 6)}, ""),
        ({"frame_index": [1, 2, 3, 4, 5]}, range(9), {n: n for n in range(1, 6)}, "begins at 1"),
        # Every tenth frame: places of pictures that were extracted, or numbers of a whole video.
        ({"frame_id": [0, 10, 20]}, range(3), {0: 0, 1: 1, 2: 2}, GAPS),
        ({"frame_id": [0, 10, 20]}, range(25), {0: 0, 10: 1, 20: 2}, TAKEN),
        ({"frame_id": [0, 10, 20]}, [0, 10, 20], {0: 0, 10: 1, 20: 2}, TAKEN),
        ({"frame_index": [0, 20, 10]}, range(3), {0: 0, 10: 10, 20: 20}, MAYBE),
        ({"frame_index": [0, 2, 4, 6]}, range(4), {0: 0, 2: 2, 4: 4, 6: 6}, MAYBE),
        ({"frame_index": [0, 2, 4, 6]}, range(8), {0: 0, 2: 2, 4: 4, 6: 6}, ""),
        ({"frame_index": [0, 10, 20]}, range(2), {0: 0, 10: 10, 20: 20}, ""),
        ({"frame_index": [0, 10], "frame_id": [1, 2]}, range(2), {0: 0, 10: 10}, MAYBE),
        ({"frame_index": [5, 10], "frame_id": [1, 2]}, range(2), {1: 5, 2: 10}, TAKEN),
        ({"frame_index": [0, 10], "frame_id": [1, 0]}, range(2), {0: 0, 10: 10},
         "as 1 of 2 are, from 0 to 10; 2 are a frame_id"),
        ({"frame_index": [5, 6, 7]}, range(3), {0: 5, 1: 6, 2: 7}, INDEX),
        ({"frame_index": [0, 10], "frame_id": [5, 8]}, range(25), {0: 0, 10: 10}, ""),
    ],
)  # fmt: skip
def test_what_a_number_means(keys, predicted, meant, said: str) -> None:
    found, remark = frames(**keys).match(predicted)
    assert dict(found) == meant
    assert said in remark and bool(said) == bool(remark)


def test_images_are_numbered_by_index_else_by_place_in_the_order_of_frame_id_else_of_id() -> None:
    images = [
        {"id": 9, "video_id": "a", "frame_index": 4}, {"id": 8, "video_id": "b", "frame_id": 70},
        {"id": 7, "vid_id": "b", "frame_id": 30}, {"id": "6", "video_id": 3, "frame_id": 2},
        {"id": 5, "video_id": 3},
    ]  # fmt: skip
    numbers, videos = number_frames(list(Field(images, "a.json").items()))
    assert numbers == {9: ("a", 4), 8: ("b", 1), 7: ("b", 0), 6: ("3", 1), 5: ("3", 0)}
    assert videos == {
        "a": VideoFrames((4,), True, {}),
        "b": VideoFrames((0, 1), False, {70: 1, 30: 0}),
        "3": VideoFrames((0, 1), False, {}),
    }
    assert str(videos["a"]) == "frame_index 4 to 4"
    assert str(videos["b"]) == "places 0 to 1 (frame_id 30 to 70)"
    # Numbers that two images have tell nothing of frames that are told by their index.
    twice = frames(frame_index=[0, 1], frame_id=[3, 3])
    assert (twice.numbers, twice.frame_ids) == ((0, 1), {})
