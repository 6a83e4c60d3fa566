"""What a user may choose about a video predictor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from video_pose.inference import trackers  # noqa: F401  (registers the built-in ones)
from video_pose.plugins import TRACKERS

# ByteTrack's: a hidden person's detections are weak, and still better than none.
WEAK_SCORE = 0.1
# From which score on a detection makes a person known: where it is all that speaks for them, and
# where a pose has the last word: chosen on pictures of COCO people (val) beside those reported.
SURE_SCORE, JUDGED_SCORE = 0.5, 0.4
REGIONS = ("frame", "box", "pose", "detector")
# What a detector alone goes by, and its name on the command line.
_OF_DETECTORS = {
    "detector_options": "--detector-opts",
    "class_name": "--class",
    "detect_every": "--detect-every",
    "tracker": "--tracker",
    "min_score": "--confidence-threshold",
    "max_missed": "--max-missed",
}
# What an R-CNN that finds people by itself does not go by; the others if it remembers people.
_NOT_OF_RCNNS = {
    "detector_options": "--detector-opts",
    "detect_every": "--detect-every",
    "heatmaps": "--heatmaps",
}
_NOT_OF_MEMORIES = {"tracker": "--tracker", "max_missed": "--max-missed"}


@dataclass(frozen=True)
class PredictorSettings:
    """Choices beside the model.

    Attributes:
        region: where a recurrent model looks for people. "frame": one person, anywhere in the
            frame; "box": one person in ``box``; "pose": one person, first as "box" or "frame", then
            where the last pose was; "detector": several people. "": "detector" where there is one,
            "box" where there is a box, else "frame". R-CNNs find people by themselves.
        box: x0, y0, x1, y1 in image pixels.
        detector: a Detectron2 config with a person class: a file, or a name in the model zoo. "":
            the package's own (`pretrained.default_detector`), for region "detector" and for a model
            that was trained on people's boxes, where neither region nor box is given.
        detector_options: keys and values that override the detector's config, such as its weights.
        class_name: of those whom the detector or R-CNN finds, or its number, as text; "": "person",
            or the only class that there is.
        detect_every: frames between two detections; the last pose's extent serves in between.
        tracker: a name of `video_pose.plugins.TRACKERS`: "iou" (built in), "bytetrack", "ocsort",
            "botsort", "cbiou" (package ``trackers``), a plugin's; or "auto", the default of
            `video_pose.inference.trackers`.
        min_score: of a detection that makes a person known; one that is known may be followed by
            weaker detections, down to `WEAK_SCORE`. None: `JUDGED_SCORE` where poses are held
            against a person threshold, else `SURE_SCORE`; MODEL.RECURRENT_KEYPOINT.MIN_SCORE of an
            R-CNN that remembers people.
        min_pose_score: a pose with a lower mean score is not followed between detections.
        person_threshold: people whose pose has a lower score (the mean of the better half of the
            joints) are not shown, 0 to 1; None: for people whom a detector finds the model's
            TEST.PERSON_THRESHOLD, else 0: R-CNNs have detections with a score of their own.
        max_people: most people on a frame, those known for longest; 0 for all.
        box_smoothing: time constant of detected boxes, seconds; 0 takes them as they are.
        max_missed: seconds that a lost person is remembered.
        cut_threshold: see `CutDetector`; 0 never restarts at a cut.
        smooth: One-Euro smoothing of the joints.
        offline: correct poses by the whole video, which is read twice; see `inference.over_time`.
        lag: correct poses by so many later frames, and give results so many frames late; None: a
            pose depends on its frame and earlier ones.
        refiner: what corrects: as TEST.OVER_TIME.REFINER.
        repair_sides: put left and right back where they change places; with ``offline`` or ``lag``.
        max_gap: seconds; offline, somebody missing for at most so long is filled in.
        join_gap: seconds; offline, somebody who comes back within them can be the same person.
        batch_frames: frames encoded together, where people do not depend on earlier poses.
        heatmaps: put heatmaps into the results.
        stills: every source is a photo, so that TEST.FLIP_STILLS, TEST.SCALES_STILLS and the
            detector's TEST.AUG.STILLS hold; nothing checks that they are.
        backend: what computes the pose network: as TEST.BACKEND, which "" leaves to the config; or
            the folder of an exported model (``video-pose export``).
        trust_programs: load such a folder in the format pt2, which can run any code.

    Raises:
        ValueError: an unknown name, or choices that contradict each other.
    """

    region: str = ""
    box: tuple[float, float, float, float] | None = None
    detector: str = ""
    detector_options: tuple[str, ...] = ()
    class_name: str = ""
    detect_every: int = 1
    tracker: str = "auto"
    min_score: float | None = None
    min_pose_score: float = 0.1
    person_threshold: float | None = None
    max_people: int = 0
    box_smoothing: float = 0.15
    max_missed: float = 1.0
    cut_threshold: float = 0.2
    smooth: bool = False
    offline: bool = False
    lag: int | None = None
    refiner: str = "auto"
    repair_sides: bool = False
    max_gap: float = 0.5
    join_gap: float = 2.0
    batch_frames: int = 1
    heatmaps: bool = False
    stills: bool = False
    backend: str = ""
    trust_programs: bool = False

    def __post_init__(self) -> None:
        if self.region and self.region not in REGIONS:
            raise ValueError(f"region {self.region!r}: choose from {', '.join(REGIONS)}")
        if self.tracker != "auto":
            TRACKERS.check(self.tracker)
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score {self.min_score}: expected 0 to 1")
        if self.person_threshold is not None and not 0 <= self.person_threshold <= 1:
            raise ValueError(f"person threshold {self.person_threshold}: expected 0 to 1")
        if self.max_people < 0 or self.box_smoothing < 0:
            raise ValueError(
                f"max_people {self.max_people} and box_smoothing {self.box_smoothing}: expected 0 "
                "or more"
            )
        self._check_time()
        if self.where == "box" and self.box is None:
            raise ValueError("region 'box' needs a box: x0 y0 x1 y1")
        if self.detector and self.where != "detector":
            raise ValueError(f"a detector has no effect with region {self.where!r}")
        if self.box is not None and self.where not in ("box", "pose"):
            raise ValueError(f"a box has no effect with region {self.where!r}")

    def refuse_unused(self) -> None:
        """Raise ValueError for a choice that a detector alone goes by, where there is none."""
        about = f"region {self.where!r}: it is of people whom a detector finds"
        self._refuse(_OF_DETECTORS, about)

    def refuse_unused_by_rcnn(self, remembers: bool) -> None:
        """Raise ValueError for a choice that an R-CNN which finds people by itself does not go by;
        ``remembers``: it also says itself who is who."""
        self._refuse(_NOT_OF_RCNNS, "an R-CNN, which finds people by itself on every frame")
        if remembers:
            about = "an R-CNN that remembers people: MODEL.RECURRENT_KEYPOINT says who is who"
            self._refuse(_NOT_OF_MEMORIES, about)

    def _refuse(self, options: Mapping[str, str], about: str) -> None:
        defaults = {item.name: item.default for item in fields(self)}
        for name, option in options.items():
            value = getattr(self, name)
            if value != defaults[name]:
                raise ValueError(f"{option} {value} ({name}) has no effect with {about}")

    def begins(self, threshold: float) -> float:
        """``min_score`` with its default filled in; ``threshold``: of the poses, see above."""
        default = JUDGED_SCORE if threshold else SURE_SCORE
        return default if self.min_score is None else self.min_score

    def _check_time(self) -> None:
        if self.offline and self.lag is not None:
            raise ValueError("offline and lag: name one of them")
        gaps_hold = self.max_gap >= 0 and self.join_gap >= 0  # NaN does not
        if self.lag is not None and self.lag < 0 or not gaps_hold:
            raise ValueError(
                f"lag {self.lag}, max_gap {self.max_gap} and join_gap {self.join_gap}: expected 0 "
                "or more"
            )
        gaps = {item.name: item.default for item in fields(self) if item.name.endswith("_gap")}
        if not self.offline and any(getattr(self, name) != gaps[name] for name in gaps):
            raise ValueError(
                f"max_gap {self.max_gap} and join_gap {self.join_gap} have an effect offline alone"
            )
        if self.waits and (self.smooth or self.heatmaps):
            raise ValueError("offline and lag come with a smoothing of their own and no heatmaps")
        if self.repair_sides and not self.waits:
            raise ValueError("repair_sides needs offline or lag")

    @property
    def waits(self) -> bool:
        """Whether poses are corrected by later frames."""
        return self.offline or self.lag is not None

    @property
    def where(self) -> str:
        """``region`` with its default filled in."""
        given = "detector" if self.detector else "box" if self.box is not None else "frame"
        return self.region or given
