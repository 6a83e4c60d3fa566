"""Several people: a detector, a tracker, and what their poses tell beyond the boxes.

On every frame of detection boxes become people by a tracker. Once their poses are found, they have
the last word:

* **identity**: two people whose poses continue each other's better than their own change places,
  and somebody new whose pose continues that of a person lost a moment ago is that person;
* **duplicates**: of two people with one pose, or of whom one is a poor pose inside the other's box,
  the one whose last pose it continues stays; one skeleton over two people is nobody;
* **presence**: a pose of low score, or of few sure joints, is not shown, and the less sure the
  detector, the better must be the pose of somebody new. Somebody new whom poses do not confirm is
  soon looked at no more, somebody known who has had none for long is given up;
* **persistence**: somebody known goes on with weak detections, and without any as long as good
  poses continue each other; the box then moves as they do.

The box in which a person is looked for is smoothed over time: half of a pose's jitter is the box's.

Shape letters: P persons, K joints, D detections. Boxes are XYXY, image pixels.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from video_pose.data.cropping import is_valid_box
from video_pose.inference.frames import Frame
from video_pose.inference.people import Detections, Detector, Person, Verdict, pose_extent
from video_pose.inference.trackers import Tracker, box_areas, pairwise_iou, shared_areas
from video_pose.inference.video_source import read_ahead
from video_pose.modeling import heatmaps

# A joint of a lower score says nothing about who somebody is.
SURE_JOINT = 0.2
# OKS from which two poses of a frame are one person's, and from which one continues another; of
# joints sure in both, at least so many.
SAME_POSE = 0.4
GOES_ON = 0.5
LEAST_JOINTS = 3
# Of a skeleton that is shown so many joints are sure: fewer are a chair, or the legs of somebody
# who has another. Chosen on videos that were looked at (docs/MODEL_ZOO.md): pictures of COCO people
# (val) beside those reported lose one person in 541 by it.
SURE_SHARE = 1 / 3
# A box is inside another from this share of its area on, and its pose is poor, compared with the
# other's, below this share of its score.
INSIDE = 0.8
POOR = 0.75
# Of a box of less than such a share of the other's area, which is an arm or a face more often than
# somebody, the pose must be better than the other's.
PART = 0.125
# Mean of OKS and overlap from which somebody new continues a lost person, and by how much two
# people must fit each other's places better than their own, to change them.
CONTINUES = 0.35
SWAP_GAIN = 0.25
# Somebody new needs so many times the person threshold, and so much of what the detector's best
# score lacks to 1. Chosen on pictures of COCO people (train).
CONFIRMING = 1.2
DOUBT = 0.3
# A box is over two people of whom it holds such shares, and who overlap each other less (IoU).
HELD = 0.7
APART = 0.2
# A weak detection continues the track whose expected box it overlaps by so much (IoU).
CONTINUES_BOX = 0.3
# A followed box grows and shrinks by at most this factor a frame.
LARGEST_STEP = 1.1
# Share of a followed box's shift that its speed takes over.
SPEED_GAIN = 0.5
# Seconds: without a good pose somebody new is looked at for so long, then not for a while.
TRIAL = 0.3
REFUSED = 1.0


@dataclass
class _Track:
    """A person, as known after the last frame on which a detection or a pose showed them."""

    box: np.ndarray  # (4,), smoothed
    shot_box: np.ndarray
    born: float  # seconds
    time: float  # of ``box``
    detected: float  # when a detection last was this person's
    score: float  # of the surest of them
    good: float  # when the pose was last good; -inf before
    tracker_number: int
    speed: np.ndarray  # (2,), px/s
    look: np.ndarray  # (4,), where to look next
    pose: np.ndarray | None = None  # (K, 3), the last good one
    number: int = -1  # in the results, from the first good pose on
    proposed: bool = True
    poor_since: float = math.inf
    refused_until: float = -math.inf

    def see(self, box: np.ndarray, score: float, time: float, smoothing: float) -> None:
        """Take in a detection; ``smoothing``: time constant, seconds."""
        self.detected, self.score = time, max(self.score, score)
        elapsed = time - self.time
        if elapsed <= 0 or smoothing <= 0:
            self.box = box
        else:
            expected = self.expected(time)
            # What is far from expected is news, not noise.
            surprise = 1 - pairwise_iou(expected[None], box[None]).item()
            gain = max(1 - math.exp(-elapsed / smoothing), surprise)
            moved = expected + gain * (box - expected)
            measured = ((moved - self.box)[:2] + (moved - self.box)[2:]) / 2 / elapsed
            self.speed = self.speed + gain * (measured - self.speed)
            self.box = moved
        self.time, self.look, self.proposed = time, self.box, True

    def follow(self, pose: np.ndarray, time: float) -> None:
        """Let the box go on as the pose did since it was last good, where no detection shows it."""
        assert self.pose is not None
        elapsed, before = time - self.time, self.box
        if elapsed <= 0:
            return
        self.box = moved_box(before, self.pose, pose)
        shift = ((self.box - before)[:2] + (self.box - before)[2:]) / 2
        self.speed = self.speed + SPEED_GAIN * (shift / elapsed - self.speed)
        self.time, self.look = time, self.box

    def expected(self, time: float) -> np.ndarray:
        """The box, moved on to ``time``."""
        return self.box + np.tile(self.speed, 2) * (time - self.time)

    def moved_pose(self, time: float) -> np.ndarray | None:
        """The last good pose, moved on to ``time``."""
        if self.pose is None:
            return None
        pose = self.pose.copy()
        pose[:, :2] += self.speed * (time - self.good)
        return pose


class DetectedPeople:
    """See the module.

    * Nobody waits: whom the detector is sure of is looked at on the same frame, also on a video's
      first one and after a cut.
    * Between detections a person is looked for in the last pose's extent, as long as its mean score
      is at least ``min_score``; else the person counts as lost until a detection matches again.
    * A lost person has no row in the output, and the memory stands still. Found again within
      ``max_missed`` seconds, it goes on; after that it is dropped, and whoever is found next is
      new.
    * At a cut everything is forgotten, and the detector runs.
    """

    independent = False

    def __init__(
        self,
        detector: Detector,
        tracker: Tracker,
        *,
        every: int = 1,
        max_missed: float = 1.0,
        margin: float = 1.2,
        min_score: float = 0.1,
        person_threshold: float = 0.0,
        box_smoothing: float = 0.15,
        bridge: float = 0.5,
        follow: float = 2.0,
        sure_score: float = 0.5,
        sigmas: Sequence[float] = (),
        max_people: int = 0,
        detector_threads: int = 0,
    ) -> None:
        """
        Args:
            every: frames between two detections, >= 1.
            max_missed: seconds.
            margin: factor on a pose's extent.
            min_score: a pose with a lower mean score is not followed between detections.
            person_threshold: a pose with a lower `pose_scores` is not shown; above 0, nor one with
                fewer sure joints than `SURE_SHARE`.
            box_smoothing: time constant of the boxes, seconds; 0 takes them as detected.
            bridge: seconds for which a person is looked for who is neither detected nor has a good
                pose.
            follow: seconds for which a person is followed by good poses alone.
            sure_score: of a detection that the tracker can begin a track with; where it hesitates,
                the detector runs on the next frame, too.
            sigmas: OKS widths of the K joints; () leaves identity and duplicates to the boxes.
            max_people: most people looked at on a frame, those known best; 0 for all.
            detector_threads: where the detector runs on every frame, whatever becomes of them: its
                share of the cores, in a thread of its own beside the poses of the frame before; 0
                runs one after the other. Results are the same.
        """
        if every < 1:
            raise ValueError(f"a detection every {every} frames: expected 1 or more")
        self._detector, self._tracker, self._every = detector, tracker, every
        self._max_missed, self._margin, self._min_score = max_missed, margin, min_score
        self._threshold, self._smoothing = person_threshold, box_smoothing
        self._sigmas = np.asarray(sigmas, np.float64)
        self._bridged, self._followed, self._sure_score = bridge, follow, sure_score
        self._max_people, self._threads = max_people, detector_threads if every == 1 else 0
        self._ahead: deque[tuple[Frame, Detections]] = deque()
        self._tracks: dict[int, _Track] = {}
        self._due, self._time = 0, 0.0
        self._size: tuple[int, int] | None = None  # of the last frame proposed for
        self.found: Detections | None = None
        self._next_track = self._next_number = 0

    def ahead(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """See `People`; detections of frames to come wait for ``propose``."""
        if not self._threads:
            yield from frames
            return

        def detect() -> Iterator[tuple[Frame, Detections]]:
            torch.set_num_threads(self._threads)  # of this thread
            for frame in frames:
                yield frame, self._detector(frame.image)

        for item in read_ahead(detect, None, "detector", depth=1):
            self._ahead.append(item)
            yield item[0]

    def _detect(self, frame: Frame) -> Detections:
        """Boxes and scores, found ahead or now."""
        while self._ahead:
            detected, found = self._ahead.popleft()
            if detected is frame:
                return found
        return self._detector(frame.image)

    def propose(self, frame: Frame) -> list[Person]:
        found = self._detect(frame) if frame.index >= self._due else None
        return self.recall(frame, found)

    def recall(self, frame: Frame, found: Detections | None) -> list[Person]:
        self._time, self.found = frame.time, found
        self._size = (frame.image.shape[0], frame.image.shape[1])
        if found is not None:
            boxes, scores = found
            keys = self.assign(boxes, scores, frame.time)
            self._bridge()
            awaited = ((keys < 0) & (np.asarray(scores) >= self._sure_score)).any()
            self._due = frame.index + (1 if awaited else self._every)
        wanted = [
            (key, track)
            for key, track in self._tracks.items()
            if track.proposed and frame.time >= track.refused_until
        ]
        if self._max_people:
            wanted.sort(key=lambda item: (item[1].number < 0, item[1].born))
            wanted = sorted(wanted[: self._max_people], key=lambda item: item[0])
        return [Person(key, track.look, track.shot_box) for key, track in wanted]

    def assign(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
        """Take in what a detector found: boxes (D, 4), scores (D,).

        Returns:
            Tracks int64 (D,); -1 for a box that is nobody's (yet), or has no area.
        """
        self._time = time
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        valid = np.flatnonzero(is_valid_box(boxes))
        keys = np.full(len(boxes), -1, np.int64)
        scores = np.asarray(scores, np.float64)
        numbers = self._tracker.update(boxes[valid], scores[valid], time)
        by_number = {track.tracker_number: key for key, track in self._tracks.items()}
        for track in self._tracks.values():
            track.proposed = False
        for place, number in zip(valid, numbers.tolist()):
            if number < 0:
                continue
            score = float(scores[place])
            if number in by_number:
                keys[place] = by_number[number]
                self._tracks[by_number[number]].see(boxes[place], score, time, self._smoothing)
            else:
                keys[place] = self._begin(number, boxes[place], score)
        self._continue_weakly(boxes, scores, valid[keys[valid] < 0], keys)
        self._tracks = {
            key: track
            for key, track in self._tracks.items()
            if time - track.time <= self._max_missed
        }
        return keys

    def _continue_weakly(
        self, boxes: np.ndarray, scores: np.ndarray, places: np.ndarray, keys: np.ndarray
    ) -> None:
        """Give detections at ``places`` that the tracker left out, in ``keys``, to known people
        whom it found nowhere: some trackers pass over weak ones."""
        missed = [k for k, t in self._tracks.items() if not t.proposed and t.number >= 0]
        if not missed or not len(places):
            return
        expected = np.stack([self._tracks[key].expected(self._time) for key in missed])
        overlap = pairwise_iou(expected, boxes[places])
        for row, column in zip(*linear_sum_assignment(-overlap)):
            if overlap[row, column] >= CONTINUES_BOX:
                place, key = places[column], missed[row]
                keys[place] = key
                score = float(scores[place])
                self._tracks[key].see(boxes[place], score, self._time, self._smoothing)

    def _bridge(self) -> None:
        """Whom the detector misses is looked for where they would be by now: as long as the poses
        are good, and for a moment without."""
        for track in self._tracks.values():
            if track.proposed or track.pose is None:
                continue
            away = self._time - track.detected
            if away <= self._followed and self._time - track.good <= self._bridged:
                track.look, track.proposed = track.expected(self._time), True

    def _begin(self, number: int, box: np.ndarray, score: float) -> int:
        self._tracks[self._next_track] = _Track(
            box=box,
            shot_box=box,
            born=self._time,
            time=self._time,
            detected=self._time,
            score=score,
            good=-math.inf,
            tracker_number=number,
            speed=np.zeros(2),
            look=box,
        )
        self._next_track += 1
        return self._next_track - 1

    def update(self, people: list[Person], keypoints: np.ndarray) -> Verdict:
        return self.judge([person.track_id for person in people], keypoints)

    def judge(self, keys: Sequence[int], keypoints: np.ndarray) -> Verdict:
        """What the poses (P, K, 3) of these tracks say."""
        keys = list(keys)
        twins: dict[int, int | None] = {}
        if len(self._sigmas) and len(self._sigmas) == keypoints.shape[1]:
            keys = self._identify(keys, keypoints)
            twins = self._twins(keys, keypoints)
        scores = pose_scores(keypoints)
        numbers = np.full(len(keys), -1, np.int64)
        for place, key in enumerate(keys):
            track = self._tracks[key]
            good = self._is_somebody(track, keypoints[place], scores[place])
            if place not in twins and good and self._goes_on(track, keypoints[place]):
                numbers[place] = self._confirm(track, keypoints[place])
            elif place not in twins:
                self._doubt(track)
            self._follow(track, keypoints[place])
        for twin, other in twins.items():
            self._drop_twin(keys[twin], None if other is None else keys[other])
        return Verdict(np.array(keys, np.int64), numbers)

    def _is_somebody(self, track: _Track, pose: np.ndarray, score: float) -> bool:
        """Whether a pose (K, 3) of a score is good enough to be shown."""
        few = (pose[:, 2] >= SURE_JOINT).sum() < SURE_SHARE * len(pose)
        if few and self._threshold > 0:
            return False
        return bool(score >= self._needed(track))

    def _needed(self, track: _Track) -> float:
        """The score from which a pose is shown."""
        if track.number >= 0:
            return self._threshold
        return self._threshold * CONFIRMING + DOUBT * (1 - track.score)

    def _goes_on(self, track: _Track, pose: np.ndarray) -> bool:
        """Whether a pose can be this person's: where no detection says so, it continues the last
        one, lest somebody hidden takes over the body that hides them."""
        last = track.moved_pose(self._time)
        if last is None or track.detected >= self._time or len(self._sigmas) != len(pose):
            return True
        return pairwise_oks(pose[None], last[None], self._sigmas).item() >= GOES_ON

    def _confirm(self, track: _Track, pose: np.ndarray) -> int:
        if track.number < 0:
            track.number, self._next_number = self._next_number, self._next_number + 1
        else:
            track.follow(pose, self._time)
        track.pose, track.good, track.poor_since = pose, self._time, math.inf
        return track.number

    def _doubt(self, track: _Track) -> None:
        """A poor pose: not shown; soon refused where nobody was known, at last given up."""
        track.poor_since = min(track.poor_since, self._time)
        patience = TRIAL if track.number < 0 else max(self._max_missed, TRIAL)
        if self._time - track.poor_since >= patience:
            track.refused_until = self._time + REFUSED
            track.number, track.pose, track.poor_since = -1, None, math.inf

    def _drop_twin(self, key: int, other: int | None) -> None:
        """``key`` shows whom ``other`` shows, or two others. A box that only ``key`` had goes to
        ``other``. Somebody new is forgotten; somebody known is only hidden."""
        twin = self._tracks[key]
        if other is None:
            if twin.number < 0:
                twin.refused_until = self._time + REFUSED
            return
        boxless = self._tracks[other].detected < self._time <= twin.detected
        if twin.number >= 0:
            if boxless:
                self._swap(key, other)
        elif boxless:
            self._take_over(other, key)
        else:
            twin.refused_until = self._time + TRIAL

    def _follow(self, track: _Track, pose: np.ndarray) -> None:
        """Where to look until the detector runs again."""
        box = pose_extent(pose, self._margin, self._min_score, self._size)
        track.proposed = box is not None
        track.look = track.look if box is None else box

    def _identify(self, keys: list[int], keypoints: np.ndarray) -> list[int]:
        """The tracks that poses continue, given those that boxes do."""
        keys = list(keys)
        boxes = np.array([self._tracks[key].box for key in keys]).reshape(-1, 4)
        known = [key for key, track in self._tracks.items() if track.pose is not None]
        if not known or not keys:
            return keys
        fit = self._fit(known, boxes, keypoints)
        column = {key: place for place, key in enumerate(known)}
        for place, key in enumerate(keys):
            if key not in column:
                self._recognize(keys, place, known, fit)
        for i, j in itertools.combinations(range(len(keys)), 2):
            a, b = column.get(keys[i]), column.get(keys[j])
            if a is None or b is None:
                continue
            gain = fit[i, b] + fit[j, a] - fit[i, a] - fit[j, b]
            if gain >= SWAP_GAIN:
                self._swap(keys[i], keys[j])
                keys[i], keys[j] = keys[j], keys[i]
        return keys

    def _recognize(self, keys: list[int], place: int, known: list[int], fit: np.ndarray) -> None:
        """Whether somebody new is a person whom no box shows now, lost or followed by poses; then
        ``keys[place]`` becomes theirs. ``fit``: see `_fit`."""
        best, found = CONTINUES, None
        for column, other in enumerate(known):
            if self._tracks[other].detected >= self._time:
                continue
            own = fit[keys.index(other), column] if other in keys else 0.0
            if fit[place, column] >= max(best, own):
                best, found = fit[place, column], other
        if found is None:
            return
        if found in keys:  # who was followed there is a place of nobody's now
            rest = keys.index(found)
            self._swap(found, keys[place])
            keys[place], keys[rest] = found, keys[place]
        else:
            self._take_over(found, keys[place])
            keys[place] = found

    def _fit(self, known: list[int], boxes: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
        """(P, tracks): mean of OKS and overlap with where each known track would be by now."""
        poses = np.stack([self._tracks[key].moved_pose(self._time) for key in known])
        return pairwise_fit(keypoints, boxes, poses, self._sigmas)

    def _take_over(self, old: int, new: int) -> None:
        """Track ``old`` goes on with what ``new`` has seen; ``new`` is gone."""
        track, fresh = self._tracks[old], self._tracks.pop(new)
        track.box, track.look, track.time = fresh.box, fresh.look, fresh.time
        track.detected, track.score = fresh.detected, max(track.score, fresh.score)
        track.tracker_number, track.proposed = fresh.tracker_number, True
        track.speed, track.refused_until = fresh.speed, -math.inf

    def _swap(self, a: int, b: int) -> None:
        """Two tracks change boxes; poses and numbers stay."""
        first, second = self._tracks[a], self._tracks[b]
        for name in ("box", "look", "time", "detected", "tracker_number", "speed"):
            old = getattr(first, name)
            setattr(first, name, getattr(second, name))
            setattr(second, name, old)

    def _twins(self, keys: list[int], keypoints: np.ndarray) -> dict[int, int | None]:
        """Places of people who are somebody else's duplicate -> that other's place; None for a
        skeleton over two people."""
        boxes = np.array([self._tracks[key].box for key in keys]).reshape(-1, 4)
        scores = pose_scores(keypoints)
        same = pairwise_oks(keypoints, keypoints, self._sigmas) >= SAME_POSE
        inside = shares_inside(boxes) >= INSIDE
        areas = box_areas(boxes)
        least = np.where(areas[:, None] < PART * areas, 1.0, POOR) * scores
        order = sorted(range(len(keys)), key=lambda i: self._seniority(keys[i], keypoints[i]))
        kept: list[int] = []
        twins: dict[int, int | None] = {}
        for i in order:
            others = [j for j in kept if same[i, j] or (inside[i, j] and scores[i] < least[i, j])]
            if others:
                twins[i] = others[0]
            else:
                kept.append(i)
        return twins | dict.fromkeys(spanning(boxes, scores, kept))

    def _seniority(self, key: int, pose: np.ndarray) -> tuple[bool, float, float]:
        """Who comes first keeps a pose that several have: of the known the one whose last pose it
        continues, of others the better pose, and who was there before."""
        track = self._tracks[key]
        last = track.moved_pose(self._time)
        if last is None:
            return True, -round(pose_scores(pose[None]).item(), 1), track.born
        continuity = pairwise_oks(pose[None], last[None], self._sigmas).item()
        return False, -round(continuity, 2), track.born

    def tracked(self) -> set[int] | None:
        return set(self._tracks)

    def reset(self) -> None:
        self._tracker.reset()
        self._tracks = {}
        self._due = 0


def pose_scores(keypoints: np.ndarray) -> np.ndarray:
    """`heatmaps.pose_scores` of (P, K, 3): (P,)."""
    return heatmaps.pose_scores(torch.from_numpy(keypoints)).numpy()


def pairwise_oks(a: np.ndarray, b: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Object keypoint similarity (COCO) of poses (M, K, 3) and (D, K, 3): (M, D).

    Joints that are sure in both count; the size is the geometric mean of both extents' areas. 0
    where fewer than `LEAST_JOINTS` joints count.
    """
    sure = (a[:, None, :, 2] >= SURE_JOINT) & (b[None, :, :, 2] >= SURE_JOINT)
    distance = ((a[:, None, :, :2] - b[None, :, :, :2]) ** 2).sum(axis=-1)
    areas = [np.maximum(box_areas(pose_boxes(x)), 1.0) for x in (a, b)]
    size = np.sqrt(areas[0][:, None] * areas[1][None])
    similarity = np.exp(-distance / (2 * size[..., None] * (2 * sigmas) ** 2))
    count = sure.sum(axis=-1)
    total = (similarity * sure).sum(axis=-1)
    return np.where(count >= LEAST_JOINTS, total / np.maximum(count, 1), 0.0)


def spanning(boxes: np.ndarray, scores: np.ndarray, kept: Sequence[int]) -> list[int]:
    """Of the ``kept`` ones of boxes (P, 4) and poses' scores (P,), those over two people: the box
    holds two others, who are apart and have better poses."""
    inside, overlap = shares_inside(boxes), pairwise_iou(boxes, boxes)
    found = []
    for i in kept:
        held = [j for j in kept if j != i and inside[j, i] >= HELD and scores[j] > scores[i]]
        if any(overlap[a, b] < APART for a, b in itertools.combinations(held, 2)):
            found.append(i)
    return found


def pairwise_fit(a: np.ndarray, boxes: np.ndarray, b: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(M, D), 0 to 1: how well poses (M, K, 3) with their boxes (M, 4) are where poses (D, K, 3)
    are expected: the mean of OKS and of the overlap with the latter's extents."""
    return (pairwise_oks(a, b, sigmas) + pairwise_iou(boxes, pose_boxes(b))) / 2


def pose_boxes(keypoints: np.ndarray) -> np.ndarray:
    """Extents (P, 4) of the sure joints of (P, K, 3); of all where fewer than two are sure."""
    sure = keypoints[..., 2] >= SURE_JOINT
    sure |= (sure.sum(axis=1) < 2)[:, None]
    low = np.where(sure[..., None], keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(sure[..., None], keypoints[..., :2], -np.inf).max(axis=1)
    return np.concatenate([low, high], axis=1)


def moved_box(box: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """A box (4,) that goes on as a pose does from ``old`` to ``new`` (K, 3): by the shift of the
    joints that are sure in both, and by their spread. As it was where fewer than `LEAST_JOINTS`
    are."""
    sure = (old[:, 2] >= SURE_JOINT) & (new[:, 2] >= SURE_JOINT)
    if sure.sum() < LEAST_JOINTS:
        return box
    a, b = old[sure, :2].astype(np.float64), new[sure, :2].astype(np.float64)
    spread = [max(float(np.sqrt(((x - x.mean(0)) ** 2).sum())), 1.0) for x in (a, b)]
    scale = np.clip(spread[1] / spread[0], 1 / LARGEST_STEP, LARGEST_STEP)
    return ((box.reshape(2, 2) - a.mean(0)) * scale + b.mean(0)).reshape(4)


def shares_inside(boxes: np.ndarray) -> np.ndarray:
    """(P, 4) -> (P, P): which share of box i lies in box j."""
    return shared_areas(boxes, boxes) / np.maximum(box_areas(boxes)[:, None], 1e-9)
