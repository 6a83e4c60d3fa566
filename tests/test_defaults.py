"""What a program gets where it names nothing: the defaults of the public functions and classes.

Who relies on one has other results when it changes, and no error. To change one is to say so in
CHANGELOG.md, and in the list below.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

PROMISED = """
modeling.backend.even_parts: most=8
modeling.fast_path.fast_path: precision='', compile='off'
modeling.frequency_conv.FrequencyConv2d: tile=24
modeling.heatmaps.CenterMap: threshold=0.01, threshold_in_test=True, kernel=9, stride=8,
    padding=0, ceil=True
modeling.layers.ConvLSTMCell: kernel_size=3, forget_bias=0.0, mask_fresh_bias=False
modeling.layers.FirstFrameCell: kernel_size=3
modeling.layers.HeatmapHead: channels=128, kernel_size=11, num_large=3, final_relu=False
modeling.recurrent_keypoint_rcnn.RecurrentKeypointHead: feature_channels=32, hidden_channels=32,
    subpixel=False
modeling.recurrent_keypoint_rcnn.PeopleMemory: next_id=0, frame=-1
modeling.recurrent_keypoint_rcnn.RecurrentROIHeads: align=True, regions=1, box_jitter=0.05,
    min_score=0.3, min_iou=0.3, oks_weight=0.5, max_missed=30, reset_every=0
modeling.recurrent_keypoint_rcnn.RecurrentKeypointRCNN: trained='all'
modeling.recurrent_keypoint_rcnn.RecurrentKeypointRCNN.train: mode=True
modeling.sequences.SequenceRefiner: width=24
modeling.sequences.OverTime: repair_sides=False
modeling.states.move_maps: empty=0.0
modeling.states.is_still: tolerance=0.0001
modeling.video_pose_net.VideoPoseNet: loss_reduction='mean', loss_weight=1.0, draw_outside=True,
    freeze_encoder=False, reset_every=0, align_state=False, precision='float32'
modeling.video_pose_net.VideoPoseNet.train: mode=True
evaluation.bootstrap.share_interval: seed=0, samples=2000, level=0.95
evaluation.bootstrap.difference_interval: seed=0, samples=2000, level=0.95
evaluation.calibration.reliability: bins=15
evaluation.coco.FrameCOCOEvaluator: distributed=True
evaluation.motion.motion_metrics: min_visibility=1
evaluation.motion.lag: max_lag=3
evaluation.pck.Protocol: head=False, head_sizes=False, pairs_averaged=False, label='PCK'
evaluation.pck.distance_histogram: bins=1000
evaluation.pck.PCKAccumulator: min_visibility=1
evaluation.pck.PCKAccumulator.interval: seed=0
evaluation.pck_evaluator.PCKEvaluator: distributed=True, save_predictions=True
evaluation.pck_evaluator.FramePCKEvaluator: person='score'
evaluation.people.JointFacts: protocol='bbox', min_visibility=1
evaluation.people.assign: least=0.0
evaluation.people.PeopleEvaluator: distributed=True
evaluation.report.share: seed=0
evaluation.report.difference: seed=0
data.build.ResumableTrainingSampler: start=0
data.build.build_pose_train_loader: start_iter=0
data.clip_mapper.MapperDefaults: region='box', padding=1.25, per='frame', scale_mode='region'
data.clip_mapper.PoseClipMapper: pad_value=128, clip_length=1, clip_stride=1,
    test_scales=(1.0,), test_flip=False,
    test_flip_stills=False, test_jitter=0.0
data.cropping.RegionRule: region='box', padding=1.25, margin=0.0, stretch=False, per='frame',
    scale_mode='region'
data.cropping.half_body_boxes: factor=1.3
data.cropping.region_scales: angle=0.0, train=False
data.cropping.image_to_crop: angle=0.0, flip=False, shift=(0.0, 0.0)
data.cropping.AffineTransform: pad_value=128.0
data.cropping.PersonCropper: pad_value=128
data.datasets.bbc_pose.load_bbc_pose: videos=20
data.datasets.coco_json.Labels: source=''
data.datasets.coco_video.register_video_keypoints: videos='video_id'
data.datasets.jhmdb.load_jhmdb: split_dirs=('splits',)
data.datasets.jhmdb.holdout_sources: share=0.2
data.datasets.penn_action.load_penn_action: require_frames=True
data.datasets.tracks.joint_boxes: factor=1.25
data.datasets.tracks.make_track: track_id='0'
data.datasets.tracks.note: count=1
data.frame_clips.FrameClipDataset: stride=1
data.frame_clips.build_frame_clips_train_loader: start_iter=0
data.frames.tracks_to_frames: box_margin=0.5
data.frames.build_frames_train_loader: start_iter=0
data.frames_mapper.MaskReader: keep=2048
data.frames_mapper.FrameMapper: unmasked='error', crowds='drop'
data.json_fields.Field: key=''
data.json_fields.Field.numbers: what=''
data.synthetic.body.Body: shoulder=0.115, hip=0.062, spine=0.29, neck=0.03, head=0.105,
    upper_arm=0.17, forearm=0.15, hand=0.035, thigh=0.24, shin=0.235, foot=0.075, thickness=1.0
data.synthetic.dataset.SyntheticOptions: frames=(16, 32), size=(320, 240), seed=0,
    occluders='light', frames_as='png', people=1
data.synthetic.dataset.make_dataset: force=False, workers=2
data.synthetic.scene.render_scene: people=1, frames=24, size=(320, 240), occluders='light',
    framing='whole'
data.synthetic.writers.write_video: fps=25
data.synthetic.writers.write_jhmdb_clip: frames_as='png'
data.synthetic.writers.write_coco_video: people=3
data.transforms.BlurTransform: sigma=0.0, factor=1.0
data.transforms.ClipDraw: scale=1.0, angle=0.0, flip=False, shift=(0.0, 0.0), cover_span=(0.0,
    1.0), cover_seed=0, half='', jitter=(0.0, 0.0, 0.0, 0.0), frame_jitter=0.0, jitter_seed=0,
    blur=0.0, low_res=1.0
data.transforms.ClipAugmentation: scale_range=(1.0, 1.0), rotation=0.0, flip_prob=0.0,
    translation=0.0, color=0.0, occlusion_prob=0.0, occlusion_size=(0.1, 0.3),
    occlusion_span=(1.0, 1.0), occlusion_fill='pad', box_jitter=0.0, box_jitter_frame=0.0,
    half_body_prob=0.0, blur_prob=0.0, blur_sigma=(0.5, 2.0), low_res_prob=0.0,
    low_res_range=(1.5, 4.0)
inference.detected_people.DetectedPeople: every=1, max_missed=1.0, margin=1.2, min_score=0.1,
    person_threshold=0.0, box_smoothing=0.15, bridge=0.5, follow=2.0, sure_score=0.5,
    max_people=0, detector_threads=0
inference.frames.PoseFrame: starts_shot=False
inference.inputs.Input: place=''
inference.inputs.find_inputs: photos=False
inference.over_time.correct_video: max_gap=0.5, join_gap=2.0
inference.over_time.offline: max_gap=0.5, join_gap=2.0
inference.people.FollowedPerson: margin=1.2, min_score=0.1
inference.predictor.Poses.to_dataframe: table='wide', angles=False
inference.predictor.VideoPosePredictor: least_score=0.05
inference.predictor.VideoPosePredictor.checkpoint: part='', seconds=60.0, frames=0,
    pictures=True
inference.predictor.people_maker: detector_threads=0
inference.rcnn.PersonRCNN: image_format='BGR', min_size=800, max_size=1333, min_score=0.5,
    precision='float32'
inference.rcnn.StreamingRCNNPredictor: min_score=0.0, max_people=0
inference.resume.Checkpoint: seconds=60.0, frames=0, pictures=True
inference.selection.keep_wanted: min_person_score=0.0, min_joint_score=0.0
inference.settings.PredictorSettings: region='', detector='', class_name='', detect_every=1,
    tracker='auto', min_pose_score=0.1, max_people=0, box_smoothing=0.15, max_missed=1.0,
    cut_threshold=0.2, smooth=False, offline=False, refiner='auto', repair_sides=False,
    max_gap=0.5, join_gap=2.0, batch_frames=1, heatmaps=False, stills=False, backend='',
    trust_programs=False
inference.smoothing.OneEuroSmoother: min_cutoff=1.5, beta=4.0, speed_cutoff=1.0, max_gap=0.25
inference.sources.CameraSource: timeout=30.0, reconnect=0
inference.sources.open_source: timeout=30.0, reconnect=0
inference.streaming.CutDetector: threshold=0.2
inference.streaming.FrameCropper: stills=False
inference.streaming.StreamingPosePredictor: batch_frames=1, keep_heatmaps=False,
    keep_peaks=False, stills=False
inference.trackers.IoUTracker: min_score=0.5, max_missed_seconds=1.0, min_iou=0.2
inference.trackers.LibraryTracker: min_score=0.5
inference.video_source.VideoSource: timeout=30.0, reconnect=0
inference.video_source.VideoSource.resume_at: since=0
inference.video_source.read_ahead: depth=2
inference.writers.Format: about='', is_table=True
inference.writers.open_writers: name=''
inference.writers.read_poses: kind=''
inference.writers.openpose.OpenPoseWriter: joints=25
inference.writers.openpose.read_openpose: joints=25
inference.writers.recordings.DeepLabCutWriter: hdf=False
inference.writers.tables.Recording: fps=25.0, path='', table='long', angles=False,
    probabilities=False
inference.writers.tables.to_dataframe: table='wide', angles=False
inference.writers.tables.stored_frame: size=(0, 0)
engine.checkpointer.PoseCheckpointer: save_dir=''
engine.checkpointer.load_model: resume=False, untrained=False
engine.defaults.check_unread: for_inference=False
engine.defaults.complete_cfg: for_inference=False
engine.defaults.load_cfg: config_file='', for_inference=False, complete=True
engine.evaluation.evaluate: changes=False
engine.launch.Launch: world_size=1, rank=0, local_rank=0, local_size=1, address='',
    restarted=False
engine.trainer.PoseTrainer.resume_or_load: resume=True
engine.views.View.tested: changes=False
engine.views.ClipsView.tested: changes=False
engine.views.FramesView.tested: changes=False
"""


PACKAGES = ("modeling", "evaluation", "data", "inference", "engine")
# Records that are filled while they are used. All others are frozen: what a stage hands on stays as
# it was, and two streams share nothing.
FILLED = {
    "data.datasets.coco_json.Labels",
    "data.synthetic.figure.Layer",
    "evaluation.predictions.TrackPredictions",
    "inference.detected_people._Track",
    "inference.over_time._Path",
    "modeling.recurrent_keypoint_rcnn.PeopleMemory",
}


def test_records_do_not_change() -> None:
    records = {
        f"{module.__name__.removeprefix('video_pose.')}.{name}": value.__dataclass_params__.frozen
        for package in PACKAGES
        for module in _modules(package)
        for name, value in vars(module).items()
        if dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    }
    assert len(records) > 40
    assert {name for name, frozen in records.items() if not frozen} == FILLED


@pytest.mark.parametrize("package", PACKAGES)
def test_defaults(package: str) -> None:
    entries = re.sub("\n    ", " ", PROMISED).strip().splitlines()
    promised = dict(entry.split(": ", 1) for entry in entries)
    found = {name: text for name, value in _public(package) if (text := _defaults(value))}
    assert found == {name: promised[name] for name in promised if name.startswith(f"{package}.")}


def _modules(package: str) -> Iterator[ModuleType]:
    root = importlib.import_module(f"video_pose.{package}")
    for info in pkgutil.walk_packages(root.__path__, f"video_pose.{package}."):
        yield importlib.import_module(info.name)


def _public(package: str) -> Iterator[tuple[str, Any]]:
    """The functions and classes that a package's modules define, and the classes' methods."""
    for module in _modules(package):
        place = module.__name__.removeprefix("video_pose.")
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value) or (inspect.isclass(value) and "__init__" in vars(value)):
                yield f"{place}.{name}", value
            for key, method in vars(value).items() if inspect.isclass(value) else ():
                if inspect.isfunction(method) and not key.startswith("_"):
                    yield f"{place}.{name}.{key}", method


def _defaults(value: Any) -> str:
    """Those that are values: None and () mean that nothing was given."""
    return ", ".join(
        f"{one.name}={one.default!r}"
        for one in inspect.signature(value).parameters.values()
        if isinstance(one.default, bool | int | float | str | tuple) and one.default != ()
    )
