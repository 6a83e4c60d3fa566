"""Detectors on video: what of a detector's output becomes people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from detectron2.utils.file_io import PathManager
from torch import nn

from video_pose.config import add_video_pose_config
from video_pose.data.synthetic.scene import render_scene
from video_pose.inference import PredictorSettings
from video_pose.inference import rcnn as module
from video_pose.inference.detected_people import DetectedPeople
from video_pose.inference.frames import Frame
from video_pose.inference.predictor import load_cfg, load_detector, load_model
from video_pose.inference.rcnn import (
    PersonRCNN,
    StreamingRCNNPredictor,
    _Found,
    _packed,
    _unpacked,
)
from video_pose.inference.resume import Past
from video_pose.inference.trackers import IoUTracker
from video_pose.modeling.rcnn_parts import naming_divergence
from video_pose.modeling.recurrent_keypoint_rcnn import (
    KeypointMemory,
    PeopleMemory,
    RecurrentKeypointRCNN,
)
from video_pose.packaged import default_detector

IMAGE = np.zeros((100, 200, 3), np.uint8)
IMAGE[..., 0] = 250  # blue


class Scripted(nn.Module):
    """Finds the same on every picture: a dog, a sure, an unsure and a hardly seen person."""

    def __init__(self, keypoints: bool = False, masks: bool = False) -> None:
        super().__init__()
        self.keypoints, self.masks = keypoints, masks
        self.seen: list[torch.Tensor] = []

    def forward(self, batch: list[dict]) -> list[dict]:
        self.seen.append(batch[0]["image"])
        size = (batch[0]["height"], batch[0]["width"])
        found = Instances(size)
        boxes = torch.tensor([[0, 0, 9, 9], [10, 10, 30, 60], [60, 10, 80, 60], [5, 5, 9, 9.0]])
        found.pred_boxes = Boxes(boxes)
        found.pred_classes = torch.tensor([1, 0, 0, 0])
        found.scores = torch.tensor([0.99, 0.6, 0.9, 0.2])
        if self.keypoints:
            found.pred_keypoints = torch.arange(4).view(4, 1, 1).expand(4, 2, 3).float()
        if self.masks:
            found.pred_masks = torch.arange(4).view(4, 1, 1).expand(4, *size) == 2
        return [{"instances": found}]


def test_people_above_the_threshold_the_surest_first() -> None:
    boxes, scores = PersonRCNN(Scripted(), person_class=0)(IMAGE)
    np.testing.assert_allclose(scores, [0.9, 0.6])
    np.testing.assert_allclose(boxes, [[60, 10, 80, 60], [10, 10, 30, 60]])


class Diverged(Scripted):
    """Its boxes are what Detectron2 asserts them not to be."""

    def __init__(self, error: type[Exception] | None = None) -> None:
        super().__init__()
        self.error = error

    def forward(self, batch: list[dict]) -> list[dict]:
        if self.error is not None:
            raise self.error("Predicted boxes or scores contain Inf/NaN. Training has diverged.")
        Boxes(torch.tensor([[0, 0, float("inf"), 9]])).clip((9, 9))
        raise RuntimeError("Detectron2 looks for it no more")


@pytest.mark.parametrize("error", [None, FloatingPointError])
def test_a_diverged_model_is_said_in_one_line(error: type[Exception] | None) -> None:
    with pytest.raises(ValueError, match="boxes are not finite .*(infinite|Inf).*earlier checkpo"):
        PersonRCNN(Diverged(error), person_class=0)(IMAGE)
    with pytest.raises(AssertionError, match="another"):
        with naming_divergence():
            raise AssertionError("another")


class Product(Scripted):
    """Its scores are a matrix product, which autocast computes in its own format."""

    def forward(self, batch: list[dict]) -> list[dict]:
        found = super().forward(batch)[0]["instances"]
        found.scores = (found.scores[:, None] @ torch.ones(1, 1))[:, 0]
        self.computed = found.scores.dtype
        return [{"instances": found}]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_detector_computes_in_its_own_precision(precision: str) -> None:
    """Not in that of the pose model which it runs beside; NumPy gets float32 in any case."""
    model = Product()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        boxes, scores = PersonRCNN(model, person_class=0, precision=precision)(IMAGE)
    assert model.computed == getattr(torch, precision)
    assert boxes.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(scores, [0.9, 0.6], atol=0 if precision == "float32" else 4e-3)


def test_pictures_are_resized_and_in_the_models_channel_order() -> None:
    for order, blue in (("rgb".upper(), 2), ("bgr".upper(), 0)):
        for sizes, shape in (({"min_size": 50}, (3, 50, 100)), ({"min_size": 0}, (3, 100, 200)),
                             ({"min_size": 50, "max_size": 80}, (3, 40, 80))):  # fmt: skip
            model = Scripted()
            PersonRCNN(model, person_class=0, image_format=order, **sizes)(IMAGE)
            (seen,) = model.seen
            assert seen.shape == shape and seen.dtype == torch.float32
            assert [plane.mean() for plane in seen] == [250 * (i == blue) for i in range(3)]


def test_keypoints_and_masks_follow_their_person() -> None:
    """The tracker takes only scores of .7 and more: the person of row 2. A joint's score, 2 as the
    head gives it, ends at 1."""
    model = Scripted(keypoints=True, masks=True)
    rcnn = PersonRCNN(model, person_class=0, joint_names=("a", "b"))
    stream = StreamingRCNNPredictor(rcnn, lambda: DetectedPeople(rcnn, IoUTracker(min_score=0.7)))
    out = list(stream([Frame(i, i / 25, IMAGE) for i in range(3)], "v"))
    assert [frame.track_ids.tolist() for frame in out] == [[0]] * 3
    assert out[1].keypoints.tolist() == [[[2, 2, 1], [2, 2, 1]]]
    assert out[1].masks is not None and out[1].masks.shape == (1, 100, 200) and out[1].masks.all()
    assert [frame.starts_shot for frame in out] == [True, False, False]


def config(classes: list[str], keypoints: list[str] | None = None) -> CfgNode:
    name = f"inference_test_{len(MetadataCatalog.list())}"
    MetadataCatalog.get(name).set(thing_classes=classes)
    if keypoints:
        MetadataCatalog.get(name).keypoint_names = keypoints
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (name,)
    return cfg


def test_the_person_class_is_found_by_name() -> None:
    rcnn = PersonRCNN.from_cfg(config(["dog", "person"]), Scripted())
    assert rcnn(IMAGE)[1].tolist() == pytest.approx([0.99])


def test_configs_without_people_or_names() -> None:
    with pytest.raises(ValueError) as error:
        PersonRCNN.from_cfg(config(["dog", "cat"]), Scripted())
    text = "the detector has no class 'person': name one (--class); its classes are: "
    assert str(error.value) == f"{text}dog, cat"
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("nobody_registered_this",)
    for architecture, last in (("GeneralizedRCNN", 79), ("Retina_Net".replace("_", ""), 4)):
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.RETINANET.NUM_CLASSES = architecture, 5
        with pytest.raises(ValueError) as error:
            PersonRCNN.from_cfg(cfg, Scripted())
        unknown = "unknown by name (no dataset of the config is registered), 0 to"
        assert str(error.value) == f"{text}{unknown} {last}"
    assert "nobody_registered_this" not in MetadataCatalog.list()
    cfg = config(["person"], ["a", "b"])
    cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(ValueError) as error:
        PersonRCNN.from_cfg(cfg, Scripted())
    assert str(error.value) == (
        "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is 17, but there are names of 2 joints: ['a', 'b']"
    )
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 1
    with pytest.raises(ValueError, match="NUM_KEYPOINTS is 1, but there are names of 2 joints"):
        PersonRCNN.from_cfg(cfg, Scripted())
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 2
    assert PersonRCNN.from_cfg(cfg, Scripted()).joint_names == ("a", "b")


def test_the_projects_own_configs_name_joints_and_people() -> None:
    """Joints of the model, which several datasets share, go before those of one dataset."""
    root = Path(__file__).parents[3] / "configs"
    for name, joints in (
        ("Keypoint-RCNN/keypoint_rcnn_R50_FPN_penn_jhmdb_lspet.yaml", 14),
        ("Keypoint-RCNN/keypoint_rcnn_R50_FPN_small_sub_jhmdb_split1.yaml", 15),
        ("Keypoint-RCNN/keypoint_rcnn_R50_FPN_coco.yaml", 17),
        ("Mask-RCNN/person_detector_R18_FPN.yaml", 0),
    ):
        rcnn = PersonRCNN.from_cfg(load_cfg(str(root / name)), Scripted())
        assert len(rcnn.joint_names) == joints, name


@pytest.mark.parametrize("name", ["Detection/faster_rcnn", "Keypoints/keypoint_rcnn"])
def test_names_of_the_model_zoo(name: str) -> None:
    cfg = load_cfg(f"COCO-{name}_R_50_FPN_3x.yaml")
    assert PersonRCNN.from_cfg(cfg, Scripted())(IMAGE)[1].tolist() == pytest.approx([0.9, 0.6])
    with pytest.raises(FileNotFoundError, match="config not found: COCO-Detection/none.yaml"):
        load_cfg("COCO-Detection/none.yaml")


class Remembering(RecurrentKeypointRCNN):
    """Gives each picture's person the number of pictures that its stream's memory has seen."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.trained, self._memory = "all", {}

    def step(self, frame: dict, memory: PeopleMemory) -> dict:
        found = Scripted()([frame])[0]["instances"]
        memory.next_id += 1
        found.pred_track_ids = torch.tensor([-1, memory.next_id, memory.next_id, -1])
        memory.ids.append(memory.next_id)
        return {"instances": found}

    def train(self, mode: bool = True) -> Remembering:
        return self


def test_a_model_that_remembers_says_who_is_who() -> None:
    """Its memory belongs to the stream, so that two streams of one predictor do not mix."""
    rcnn = PersonRCNN(Remembering(), person_class=0)
    predictor = StreamingRCNNPredictor(rcnn, lambda: DetectedPeople(rcnn, IoUTracker()))
    frames = [Frame(i, i / 25, IMAGE) for i in range(3)]
    pairs = zip(predictor(frames), predictor(frames))
    ids = [(a.track_ids.tolist(), b.track_ids.tolist()) for a, b in pairs]
    assert ids == [([1, 1], [1, 1]), ([2, 2], [2, 2]), ([3, 3], [3, 3])]


class Numbering(Remembering):
    """Numbers 4, 2 and 3, whose scores on three frames are these."""

    SCORES = ((0.35, 0.95, 0.3), (0.4, 0.35, 0.99), (0.92, 0.1, 0.3))

    def step(self, frame: dict, memory: PeopleMemory) -> dict:
        found = Instances((100, 200))
        found.pred_boxes = Boxes(torch.tensor([[0.0, 0, 9, 9]] * 4))
        found.pred_classes = torch.zeros(4, dtype=torch.long)
        found.scores = torch.tensor([*self.SCORES[memory.next_id], 0.99])
        found.pred_track_ids = torch.tensor([4, 2, 3, -1])
        memory.next_id += 1
        return {"instances": found}


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, [[2, 4, 3], [3, 4, 2], [4, 3, 2]]),
        # Who was once as sure as .9 is known from then on, also by weak detections.
        ({"min_score": 0.9}, [[2], [3, 2], [4, 3, 2]]),
        ({"max_people": 2}, [[2, 3], [3, 2], [3, 2]]),
        ({"max_people": 1, "min_score": 0.99}, [[], [3], [3]]),
    ],
)
def test_bounds_hold_for_a_model_that_remembers_people(
    options: dict[str, float], numbers: list[list[int]]
) -> None:
    """Of detections of any score; who has no number is never shown. Twice: a stream's people are
    its own."""
    rcnn = PersonRCNN(Numbering(), person_class=0, min_score=0.1)
    stream = StreamingRCNNPredictor(
        rcnn, lambda: DetectedPeople(rcnn, IoUTracker()), **options  # type: ignore[arg-type]
    )  # fmt: skip
    for _ in range(2):
        found = list(stream([Frame(i, i / 25, IMAGE) for i in range(3)]))
        assert [frame.track_ids.tolist() for frame in found] == numbers
        assert all(len(frame.boxes) == len(frame.scores) == len(frame) for frame in found)


def test_at_most_so_many_people_of_a_plain_detector() -> None:
    """Those known for longest: of two new ones the surer, who stays though the other is surer
    later; boxes, joints and masks are this person's."""
    model = Scripted(keypoints=True, masks=True)
    rcnn = PersonRCNN(model, person_class=0, joint_names=("a", "b"))
    stream = StreamingRCNNPredictor(rcnn, lambda: DetectedPeople(rcnn, IoUTracker()), max_people=1)
    frames = [Frame(i, i / 25, IMAGE) for i in range(3)]
    for result in stream(frames):
        assert result.track_ids.tolist() == [0] and result.boxes.tolist() == [[60, 10, 80, 60]]
        assert result.keypoints.tolist() == [[[2, 2, 1], [2, 2, 1]]]
        assert result.masks is not None and result.masks.shape == (1, 100, 200)


def test_a_zoo_config_comes_with_the_zoos_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the address asked for; the file itself names the ImageNet backbone."""
    for name, number in (
        ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x", "137849621"),
        ("COCO-Detection/faster_rcnn_R_50_FPN_3x", "137849458"),
    ):
        weights = load_cfg(f"{name}.yaml").MODEL.WEIGHTS
        assert weights.startswith("https://") and f"{name}/{number}/model_final" in weights
        own = load_cfg(f"{name}.yaml", ["MODEL.WEIGHTS", "mine.pth"])
        assert own.MODEL.WEIGHTS == "mine.pth"
    asked: list[str] = []

    def refuse(path: str, *args: object, **kwargs: object) -> str:
        asked.append(path)
        raise URLError("no network")

    monkeypatch.setattr(PathManager, "get_local_path", refuse)
    monkeypatch.setattr("video_pose.inference.predictor.build_model", lambda cfg: Scripted())
    cfg = load_cfg("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    with pytest.raises(FileNotFoundError, match="cannot be fetched .*no network.*name the file"):
        load_model(cfg)
    assert asked == [cfg.MODEL.WEIGHTS]


def test_classes_of_a_users_own(tmp_path: Path) -> None:
    """`register_coco_instances` tells its classes when it is read, which nobody has done here."""
    assert PersonRCNN.from_cfg(config(["mouse"]), Scripted())(IMAGE)[1].tolist() != []
    with pytest.raises(ValueError, match="no class 'rat': .* its classes are: mouse$"):
        PersonRCNN.from_cfg(config(["mouse"]), Scripted(), class_name="rat")
    # Who asks for another class than people gets it; a name goes before a number.
    for names, wanted in ((["person", "cat"], "cat"), (["person", "0"], "0"), (["0", "1"], "1")):
        rcnn = PersonRCNN.from_cfg(config(names), Scripted(), class_name=wanted)
        assert rcnn(IMAGE)[1].tolist() == pytest.approx([0.99])
    chosen = PersonRCNN.from_cfg(config(["dog", "cat"]), Scripted(), class_name="cat")
    assert chosen(IMAGE)[1].tolist() == pytest.approx([0.99])
    with pytest.raises(ValueError, match="no class 'cow': name one .--class.*dog, cat"):
        PersonRCNN.from_cfg(config(["dog", "cat"]), Scripted(), class_name="cow")
    categories = [{"id": 3, "name": "mouse"}, {"id": 7, "name": "rat"}]
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    name = "inference_test_own_classes"
    register_coco_instances(name, {}, str(file), str(tmp_path))
    try:
        cfg = get_cfg()
        cfg.DATASETS.TRAIN = (name,)
        rats = PersonRCNN.from_cfg(cfg, Scripted(), class_name="rat")
        assert rats(IMAGE)[1].tolist() == pytest.approx([0.99])
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_classes_without_names_go_by_number() -> None:
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("registered_elsewhere",)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    assert PersonRCNN.from_cfg(cfg, Scripted())(IMAGE)[1].tolist() == pytest.approx([0.9, 0.6])
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    with pytest.raises(ValueError, match="unknown by name .no dataset.*, 0 to 1"):
        PersonRCNN.from_cfg(cfg, Scripted())
    numbered = PersonRCNN.from_cfg(cfg, Scripted(), class_name="1")
    assert numbered(IMAGE)[1].tolist() == pytest.approx([0.99])


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_in_photos_the_packaged_detector_looks_several_times(backend: str) -> None:
    """Mirrored as well: a mirrored photo gives the mirrored people, which one look does not."""
    packaged = default_detector()
    assert packaged is not None
    if backend != "torch":
        pytest.importorskip(backend)
    cfg = load_cfg(packaged.config, ["MODEL.WEIGHTS", packaged.weights, "TEST.BACKEND", backend])
    picture = render_scene(5, frames=1, size=(160, 120), occluders="none").frames[0]

    def differs(stills: bool) -> float:
        detector = load_detector(cfg, PredictorSettings(stills=stills), 0.25)
        boxes, mirrored = (
            detector(np.ascontiguousarray(image))[0][:1] for image in (picture, picture[:, ::-1])
        )
        back = np.stack([160 - mirrored[:, 2], 160 - mirrored[:, 0]], axis=1)
        return float(np.abs(boxes[:, ::2] - back).max())

    assert differs(stills=True) < 0.01 < 0.1 < differs(stills=False)


@pytest.mark.parametrize("count", [8, 9])
def test_eight_classes_are_named(count: int) -> None:
    names = [f"c{i}" for i in range(count)]
    more = ", ..." if count > 8 else ""
    with pytest.raises(ValueError) as error:
        PersonRCNN.from_cfg(config(names), Scripted())
    assert str(error.value).endswith(f"its classes are: {', '.join(names[:8])}{more}")
    for wanted in (str(count), "-1", "c9"):
        with pytest.raises(ValueError, match=f"no class '{wanted}'"):
            PersonRCNN.from_cfg(config(names), Scripted(), class_name=wanted)
    last = PersonRCNN.from_cfg(config(names), Scripted(), class_name=str(count - 1))
    assert last(IMAGE)[1].tolist() == []


def test_a_dataset_that_is_not_on_this_disk_is_passed_over() -> None:
    def absent() -> list[dict]:
        raise FileNotFoundError("elsewhere")

    DatasetCatalog.register("rcnn_test_absent", absent)
    MetadataCatalog.get("rcnn_test_known").set(thing_classes=["cat", "person"])
    try:
        cfg = get_cfg()
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("rcnn_test_absent",), ("rcnn_test_known",)
        assert PersonRCNN.from_cfg(cfg, Scripted())(IMAGE)[1].tolist() == pytest.approx([0.99])
    finally:
        DatasetCatalog.remove("rcnn_test_absent")
        MetadataCatalog.remove("rcnn_test_known")


def test_a_score_that_is_the_bound_counts() -> None:
    assert len(PersonRCNN(Scripted(), person_class=0, min_score=0.59)(IMAGE)[1]) == 2
    sure = PersonRCNN(Scripted(), person_class=0, min_score=float(torch.tensor(0.6)))
    assert len(sure(IMAGE)[1]) == 2
    assert len(PersonRCNN(Scripted(), person_class=0, min_score=0.61)(IMAGE)[1]) == 1


def test_numbers_of_a_half_precision_model_are_floats() -> None:
    class Half(Scripted):
        def forward(self, batch: list[dict]) -> list[dict]:
            found = super().forward(batch)[0]["instances"]
            found.pred_boxes.tensor = found.pred_boxes.tensor.half()
            found.scores = found.scores.half()
            return [{"instances": found}]

    found = PersonRCNN(Half(keypoints=True), person_class=0).instances(IMAGE)
    assert found.pred_boxes.tensor.dtype == found.scores.dtype == torch.float32
    assert found.pred_classes.dtype == torch.int64


def test_a_detector_keeps_no_gradients() -> None:
    class Learning(Scripted):
        def __init__(self) -> None:
            super().__init__(keypoints=True)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, batch: list[dict]) -> list[dict]:
            found = super().forward(batch)[0]["instances"]
            found.scores = found.scores * self.scale
            return [{"instances": found}]

    boxes, scores = PersonRCNN(Learning(), person_class=0)(IMAGE)
    assert len(boxes) == 2 and scores.tolist() == pytest.approx([0.9, 0.6])


def test_what_cannot_be_looked_at_mirrored() -> None:
    """Sides that nobody names would be averaged with one another."""
    cfg = config(["person"], ["left_eye", "tail"])
    add_video_pose_config(cfg)
    detector = PersonRCNN(Scripted(), person_class=0)
    with pytest.raises(ValueError, match="TEST.AUG works for GeneralizedRCNN only, not for Script"):
        detector.augment(cfg)
    cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(ValueError, match=r"TEST.AUG.FLIP needs MODEL.POSE.JOINTS"):
        detector.augment(cfg)
    cfg.MODEL.POSE.JOINTS = ["left_eye", "tail"]
    with pytest.raises(ValueError, match=r"'left_eye' \(no right_eye\)"):
        detector.augment(cfg)
    with pytest.raises(ValueError, match="would mix people's memories"):
        PersonRCNN(Remembering(), person_class=0).augment(cfg)


def test_a_detector_as_its_configuration_says() -> None:
    """Joints of the model before those of a dataset; sizes, channel order and precision."""
    cfg = config(["dog", "person"], ["a", "b"])
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = "RGB", 50, 80
    model = Scripted()
    plain = PersonRCNN.from_cfg(cfg, model, min_score=0.95)
    assert plain(IMAGE)[1].tolist() == pytest.approx([0.99])
    assert model.seen[0].shape == (3, 40, 80) and model.seen[0][2].mean() == 250
    assert (plain.precision, plain.joint_names) == ("float32", ())
    add_video_pose_config(cfg)
    cfg.TEST.PRECISION, cfg.MODEL.KEYPOINT_ON = "bfloat16", True
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 2
    assert PersonRCNN.from_cfg(cfg, model).joint_names == ("a", "b")
    cfg.MODEL.POSE.JOINTS = ["left_eye", "right_eye"]
    own = PersonRCNN.from_cfg(cfg, model)
    assert (own.precision, own.joint_names) == ("bfloat16", ("left_eye", "right_eye"))
    with pytest.raises(ValueError, match="half"):
        PersonRCNN(model, person_class=0, precision="half")


@pytest.mark.parametrize(("keypoints", "flip"), [(False, True), (True, False), (True, True)])
def test_several_looks_are_at_the_largest_image(
    monkeypatch: pytest.MonkeyPatch, keypoints: bool, flip: bool
) -> None:
    """The others are made of it, of whole numbers; mirror pairs are asked for where they count."""

    class Several(Scripted):
        def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
            super().__init__()
            self.made_of = (cfg, model)

    monkeypatch.setattr(module, "KeypointRCNNWithTTA", Several)
    cfg = config(["person"])
    add_video_pose_config(cfg)
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = (30, 60, 50), 1000
    cfg.TEST.AUG.FLIP, cfg.MODEL.KEYPOINT_ON = flip, keypoints
    if keypoints and flip:
        cfg.MODEL.POSE.JOINTS = ["left_eye", "right_eye"]
        cfg.MODEL.POSE.FLIP_MAP = [("left_eye", "right_eye")]
    one = Scripted()
    detector = PersonRCNN(one, person_class=0)
    detector.augment(cfg)
    assert isinstance(detector.model, Several) and detector.model.made_of == (cfg, one)
    assert not detector.model.training
    assert detector(IMAGE)[1].tolist() == pytest.approx([0.9, 0.6])
    (seen,) = detector.model.seen
    assert seen.shape == (3, 60, 120) and seen.dtype == torch.uint8 and seen.max() == 250
    cfg.TEST.AUG.MAX_SIZE = 80
    detector = PersonRCNN(one, person_class=0)
    detector.augment(cfg)
    detector(IMAGE)
    assert detector.model.seen[0].shape == (3, 40, 80)


def test_scores_of_joints_end_at_0_and_1() -> None:
    class Wild(Scripted):
        def forward(self, batch: list[dict]) -> list[dict]:
            found = super().forward(batch)[0]["instances"]
            scores = torch.tensor([[-0.5, 0.25], [0.0, 1.5]])[:, :, None]
            found = found[torch.tensor([1, 2])]
            found.pred_keypoints = torch.cat([torch.full((2, 2, 2), -3.0), scores], dim=2)
            return [{"instances": found}]

    detector = PersonRCNN(Wild(), person_class=0, joint_names=("a", "b"))
    stream = StreamingRCNNPredictor(detector, lambda: DetectedPeople(detector, IoUTracker()))
    (frame,) = stream([Frame(0, 0.0, IMAGE)])
    assert frame.keypoints.tolist() == [[[-3, -3, 0], [-3, -3, 1]], [[-3, -3, 0], [-3, -3, 0.25]]]


class Stripes:
    """A cut wherever the first pixel is brighter than on the frame before."""

    def __init__(self) -> None:
        self.last = 255

    def __call__(self, image: np.ndarray) -> bool:
        brighter = int(image[0, 0, 0]) > self.last
        self.last = int(image[0, 0, 0])
        return brighter


def test_a_cut_makes_everybody_new() -> None:
    """By boxes, which stand still, and by a model that remembers; without a detector of cuts the
    first frame alone begins a shot. Boxes without joints have none."""
    frames = [Frame(i, i / 25, np.full_like(IMAGE, 9 - i + 5 * (i > 2))) for i in range(5)]
    plain = PersonRCNN(Scripted(), person_class=0)

    def people() -> DetectedPeople:
        return DetectedPeople(plain, IoUTracker())

    found = list(StreamingRCNNPredictor(plain, people, cuts=Stripes)(frames, "walk"))
    assert [frame.track_ids.tolist() for frame in found] == [[0, 1]] * 3 + [[2, 3]] * 2
    assert [frame.starts_shot for frame in found] == [True, False, False, True, False]
    for frame, given in zip(found, frames, strict=True):
        assert (frame.index, frame.time, frame.video) == (given.index, given.time, "walk")
        assert frame.image is given.image and frame.masks is None
        assert frame.keypoints.shape == (2, 0, 3) and frame.scores.tolist() == [
            np.float32(0.9), np.float32(0.6),
        ]  # fmt: skip
        assert frame.boxes.tolist() == [[60, 10, 80, 60], [10, 10, 30, 60]]
        assert frame.boxes.dtype == frame.scores.dtype == np.float32
    whole = list(StreamingRCNNPredictor(plain, people)(frames))
    assert [frame.starts_shot for frame in whole] == [True] + [False] * 4
    assert [frame.track_ids.tolist() for frame in whole] == [[0, 1]] * 5

    class Counting(Remembering):
        """Tells how many pictures the shot has had."""

        def step(self, frame: dict, memory: PeopleMemory) -> dict:
            result = super().step(frame, memory)
            result["instances"].pred_track_ids[1:3] = len(memory.ids)
            return result

    remembering = PersonRCNN(Counting(), person_class=0)
    shots = list(StreamingRCNNPredictor(remembering, people, cuts=Stripes)(frames))
    assert [frame.track_ids.tolist() for frame in shots] == [[n, n] for n in (1, 2, 3, 1, 2)]


@pytest.mark.parametrize("people", [None, 0, 1, 3])
def test_what_a_checkpoint_keeps_of_a_frame(people: int | None) -> None:
    """Masks of nobody, of one and of several; None: the model has neither masks nor numbers."""
    count = 2 if people is None else people
    random = np.random.default_rng(0)
    masks = random.uniform(size=(count, 5, 7)) < 0.5
    given = _Found(
        random.uniform(size=(count, 4)), random.uniform(size=count),
        random.uniform(size=(count, 6, 3)).astype(np.float32),
        None if people is None else np.arange(count) + 3, None if people is None else masks,
    )  # fmt: skip
    packed = _packed(given)
    expected = {"boxes", "scores", "keypoints"}
    assert set(packed) == expected | (
        set() if people is None else {"numbers", "mask_bytes", "masks"}
    )
    back = _unpacked(Past(3, 0.1, (5, 7), False, packed))
    for one, other in zip(back, given, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def test_the_first_dataset_that_tells_its_classes() -> None:
    """Training before test data; joints are of the same one. A dataset that tells nothing when it
    is read is passed over."""
    cfg = config(["rat", "person"], ["a"])
    first = cfg.DATASETS.TRAIN[0]
    second = config(["person", "rat"], ["b", "c"]).DATASETS.TRAIN[0]
    DatasetCatalog.register("rcnn_test_silent", list)
    try:
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("rcnn_test_silent", first), (second,)
        assert list(module._metadata(cfg).thing_classes) == ["rat", "person"]
        cfg.DATASETS.TRAIN = ("rcnn_test_silent", second, first)
        assert list(module._metadata(cfg).keypoint_names) == ["b", "c"]
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("rcnn_test_silent",)
        assert module._metadata(cfg).get("thing_classes") is None
    finally:
        DatasetCatalog.remove("rcnn_test_silent")


class Kept:
    """A checkpoint that holds these frames, notes those that are added, and is due on odd ones."""

    def __init__(self, held: list[Past]) -> None:
        self.held, self.added, self.saved = held, [], []  # type: ignore[var-annotated]

    def past(self) -> Iterator[Past]:
        return iter(self.held)

    def add(self, past: Past, image: np.ndarray) -> None:
        assert image[0, 0, 0] == 9 - past.index + 5 * (past.index > 2)
        self.added.append(past)

    def is_due(self) -> bool:
        return self.added[-1].index % 2 == 1

    def save(self, *state: dict) -> None:
        self.saved.append((self.added[-1].index, *state))


@pytest.mark.parametrize("held", range(6))
def test_a_run_that_was_cut_off_goes_on_with_the_same_people(held: int) -> None:
    """After any number of frames: those kept come again, with their cut, and the next one may be a
    cut itself."""
    frames = [Frame(i, i / 25, np.full_like(IMAGE, 9 - i + 5 * (i > 2))) for i in range(5)]
    plain = PersonRCNN(Scripted(), person_class=0)
    stream = StreamingRCNNPredictor(
        plain, lambda: DetectedPeople(plain, IoUTracker()), cuts=Stripes
    )
    whole = Kept([])
    expected = list(stream(frames, "walk", whole))  # type: ignore[arg-type]
    assert [(p.index, p.time, p.size, p.cut) for p in whole.added] == [
        (i, i / 25, (100, 200), i == 3) for i in range(5)
    ]
    assert whole.saved == [(1, {}, {}), (3, {}, {})]
    rest = Kept(whole.added[:held])
    found = list(stream(frames, "walk", rest))  # type: ignore[arg-type]
    for one, other in zip(found, expected, strict=True):
        assert one.track_ids.tolist() == other.track_ids.tolist()
        assert (one.starts_shot, one.index, one.video) == (other.starts_shot, other.index, "walk")
        assert one.boxes.tolist() == other.boxes.tolist() and one.image is other.image
    assert [past.index for past in rest.added] == [*range(held, 5)]
    assert [past.cut for past in rest.added] == [past.cut for past in whole.added[held:]]


CPU = torch.device("cpu")


@pytest.mark.parametrize("lost", ["", "ages", "poses", "boxes"])
def test_a_memory_that_an_earlier_version_wrote_is_refused(lost: str) -> None:
    """Without ages or poses people would go on otherwise than in one run."""
    row = torch.ones(1, 1, 1, 1)
    memory = PeopleMemory(
        ids=[4], ages=[2], missed=[1], boxes=torch.ones(1, 4), poses=torch.zeros(1, 2, 3),
        state=KeypointMemory(row, row + 1, row + 2, row + 3), next_id=5, frame=9,
    )  # fmt: skip
    tensors, rest = module._stored(memory)
    assert set(tensors) == {"maps", "hidden", "cell", "fresh", "boxes", "poses"}
    assert rest == {"ids": [4], "ages": [2], "missed": [1], "next_id": 5, "frame": 9}
    assert module._stored(None) == ({}, {})
    tensors.pop(lost, None)
    rest.pop(lost, None)
    written = SimpleNamespace(folder="v.resume", state=lambda: (dict(tensors), rest))
    again = PeopleMemory()
    if lost:
        with pytest.raises(ValueError) as error:
            module._restore(again, written, CPU)  # type: ignore[arg-type]
        assert str(error.value) == (
            "v.resume was begun by an earlier version, which left out people's ages and poses: "
            "remove it to begin the video anew"
        )
        return
    module._restore(again, written, CPU)  # type: ignore[arg-type]
    assert again == memory
    module._restore(again, SimpleNamespace(state=lambda: None), CPU)  # type: ignore[arg-type]
    assert again.ids == [4]
    # What was written lies on the CPU; a model on a GPU needs it there.
    module._restore(again, written, torch.device("meta"))  # type: ignore[arg-type]
    assert again.boxes is not None and again.poses is not None and again.state is not None
    assert {part.device.type for part in (again.boxes, again.poses, *again.state)} == {"meta"}
