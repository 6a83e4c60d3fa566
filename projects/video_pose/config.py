"""Every configuration key that video pose adds to Detectron2's, with unit and legal values."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

# Keys of older configurations: read, and ignored with a line of log.
RETIRED_KEYS = ("TEST.ENCODE_BATCH", "TEST.LARGE_CONVOLUTIONS")
# Values of SOLVER.OPTIMIZER.
OPTIMIZERS = ("SGD", "ADAM", "ADAMW")


def add_video_pose_config(cfg: CN) -> None:
    """Add the keys shared by all recurrent pose models to ``cfg``, in place.

    Lengths in pixels are pixels of the crop (the network's input) unless a comment says otherwise.
    Stock keys that change their meaning: ``SOLVER.IMS_PER_BATCH`` counts **clips** of
    ``INPUT.CLIP.LENGTH`` frames, and ``DATALOADER.ASPECT_RATIO_GROUPING`` must be off, since all
    crops have one size.
    """
    # Pairs [dataset, factor]: how often an item of the dataset comes in an epoch, with
    # DATALOADER.SAMPLER_TRAIN "WeightedTrainingSampler". Detectron2 reads the key, but lacks it.
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = []
    for key in RETIRED_KEYS:
        cfg.register_deprecated_key(key)
    _add_model_keys(cfg)
    _add_input_keys(cfg)
    _add_solver_keys(cfg)
    _add_test_keys(cfg)


def _add_model_keys(cfg: CN) -> None:
    pose = cfg.MODEL.POSE = CN()
    # Names of the joints, in the order of the model's maps. An empty list takes the joints of the
    # first training dataset when the configuration is set up (see engine/defaults.py).
    pose.JOINTS = []
    # Pairs [left, right] of joints that a mirror image swaps. An empty list takes those of the
    # first training dataset, or follows from names that begin with left_ and right_.
    pose.FLIP_MAP = []
    # Whether a training dataset may lack some of JOINTS: they are then unlabelled there (no loss).
    # Every joint must come from at least one dataset; a table of joints and datasets is logged.
    pose.PARTIAL_JOINTS = False
    # Weight of the loss on the empty target of a joint that is known to be absent (0 = none): one
    # without a label on a labelled person of a dataset whose metadata has ``unlabelled_is_absent``.
    pose.ABSENT_WEIGHT = 0.0
    # Whether the encoder is trained ("train"), kept as loaded ("freeze"), its norms in eval mode,
    # too.
    pose.ENCODER = "train"
    # Whether a person's recurrent state moves with the crop: before each step its maps are sampled
    # from the last crop's cells into this one's. False: it stays in its cells, as in the papers.
    pose.ALIGN_STATE = False
    # Factor on the encoder's learning rate (parameters outside the recurrent part); >= 0.
    pose.ENCODER_LR_FACTOR = 1.0

    heatmap = pose.HEATMAP = CN()
    # Pixels per heatmap cell.
    heatmap.STRIDE = 8
    # Standard deviation of a target's Gaussian, px.
    heatmap.SIGMA = 8.0
    # Target values below this are set to 0.
    heatmap.THRESHOLD = 0.01
    # Channel of the background map (1 - max over joints): "first", "last" or "none".
    heatmap.BACKGROUND = "last"
    # Centre of cell 0 in 0-based discrete pixels; below 0: the true centre, (STRIDE - 1) / 2.
    # Two keys, since released weights were trained on targets drawn at one offset and decoded at
    # another.
    heatmap.ENCODE_OFFSET = -1.0
    heatmap.DECODE_OFFSET = -1.0
    # Whether a joint outside the image or the crop still draws the part of its Gaussian that falls
    # inside; False leaves its target empty (LSTM Pose Machines on Penn Action).
    heatmap.DRAW_OUTSIDE = True
    # Peak localisation: "argmax" (cell centre), "quarter" (a quarter of a cell towards the higher
    # neighbour), "dark" (Taylor expansion of the log heatmap, Zhang et al., CVPR 2020) or "oks"
    # (the place of the highest expected similarity, as COCO measures it, then as "dark").
    heatmap.DECODE = "dark"
    # For "oks", which knows COCO's sigmas by the joints' names: square root of a person's area over
    # the crop's longer side. Of COCO's people, whose area is half of the box, in a crop of 1.25
    # times the box's longer side .36 on average.
    heatmap.OKS_SCALE = 0.36

    center = pose.CENTER_MAP = CN()
    # Standard deviation of the Gaussian at the person's centre, px.
    center.SIGMA = 21.0
    # Values below the threshold are set to 0 (before pooling).
    center.THRESHOLD = 0.01
    # Apply the threshold at inference as well as in training.
    center.THRESHOLD_IN_TEST = True
    # Average pooling that brings the map to the heatmap's grid: kernel and padding in px (stride is
    # HEATMAP.STRIDE), and whether the output size is rounded up (Caffe) or down (PyTorch's
    # default).
    center.POOL_KERNEL = 9
    center.POOL_PADDING = 1
    center.POOL_CEIL = False

    _add_recurrent_keypoint_keys(cfg)

    loss = pose.LOSS = CN()
    # "mean": squared error averaged over cells, channels and clips, summed over frames (UniPose).
    # "half_sum": 1 / (2 B) of the squared error's sum, summed over frames (LSTM Pose Machines).
    loss.REDUCTION = "mean"
    # Factor on the loss.
    loss.WEIGHT = 1.0


def _add_recurrent_keypoint_keys(cfg: CN) -> None:
    """Keys of the meta-architecture RecurrentKeypointRCNN."""
    node = cfg.MODEL.RECURRENT_KEYPOINT = CN()
    # "all", or what alone is trained: "head" (the keypoint head), "head_without_memory" (the layers
    # that it has in stock Keypoint R-CNN), "memory" (those that it has not). The rest stays as
    # loaded.
    node.TRAIN = "all"
    # Channels of the memory, and those that the head's features are reduced to for it; >= 1.
    node.HIDDEN_CHANNELS = 32
    node.FEATURE_CHANNELS = 32
    # Whether a person's memory moves with the region, from the last box's grid into this one's.
    node.ALIGN = True
    # Regions of each person in training, each with a memory of its own: the costly part, the frame,
    # is the same for all; >= 1.
    node.REGIONS = 1
    # Standard deviation of a true box's random change in training, as a share of its sides; >= 0.
    node.BOX_JITTER = 0.05
    # Joints between the cells of the logits; False decodes as Detectron2 does.
    node.SUBPIXEL = False
    # Detections below this score have no memory, 0-1.
    node.MIN_SCORE = 0.3
    # Least overlap (IoU) of a detection with a person's last box to be that person, 0-1.
    node.MIN_IOU = 0.3
    # Weight of the poses' similarity (OKS) beside the overlap, where boxes of several people
    # overlap, 0-1; 0: boxes alone say who is who.
    node.OKS_WEIGHT = 0.5
    # Frames for which the memory of a person who is not seen is kept; >= 0.
    node.MAX_MISSED = 30


def _add_input_keys(cfg: CN) -> None:
    inp = cfg.INPUT
    # Registered clip mapper: "PoseClipMapper", "PennActionClipMapper", "BBCPoseClipMapper" or
    # "JHMDBClipMapper". The named ones hold their dataset's defaults, which the keys below marked
    # (*) take when they are left empty.
    inp.MAPPER = "PoseClipMapper"
    # Network input, (height, width), px.
    inp.CROP_SIZE = (256, 256)
    # (*) What a crop shows: "box" (the person's box) or "frame" (the whole frame, or WINDOW of it).
    inp.REGION = ""
    # (*) Factor on the box's longer side (REGION "box", SCALE_MODE "region"); 0 = default.
    inp.REGION_PADDING = 0.0
    # What lies further from the box than this share of its longer side is shown as PAD_VALUE, so
    # that a model sees whose joints are asked for (REGION "box"); 0 shows all of the crop.
    inp.REGION_MARGIN = 0.0
    # Fixed window of the frame for REGION "frame": (x0, y0, x1, y1) in image px. x0, y0 < 0 and
    # x1, y1 <= 0 count from the right and bottom edges: (-368, -368, 0, 0) is the bottom-right
    # 368x368.
    inp.WINDOW = ()
    # With REGION "frame": True stretches the frame to the crop, False keeps its aspect and pads.
    inp.STRETCH = False
    # (*) "frame" centres the region on each frame's own box; "clip" fixes one region (the union of
    # the clip's boxes) for all frames of a training clip or test chunk's track.
    inp.REGION_PER = ""
    # (*) "region": SCALE_RANGE multiplies the scale that makes the padded region fill the crop.
    # "absolute": it multiplies the image's own size (LSTM Pose Machines); a clip whose longest
    # scaled box exceeds the crop is shrunk to crop / longest / 1.1 (test: per frame, / 1.05).
    inp.SCALE_MODE = ""
    # Value of pixels outside the image, 0-255.
    inp.PAD_VALUE = 128

    # What the loaders deliver: "clips" of tracks (recurrent models), single "frames" of the
    # datasets named <name>_frames, and images of Detectron2's own datasets (R-CNNs), "frame_clips"
    # of whole frames (RecurrentKeypointRCNN), or a plugin's view. "" follows from the
    # meta-architecture. With frames, SOLVER.IMS_PER_BATCH counts frames.
    inp.VIEW = ""
    frames = inp.FRAMES = CN()
    # Training takes every n-th labelled frame of a video, >= 1; testing takes all. Clips go by
    # CLIP.STRIDE.
    frames.STRIDE = 1
    # A person without a mask in a training with MODEL.MASK_ON: "error", or "keep" without a mask
    # loss, which needs MODEL.ROI_MASK_HEAD.NAME "PartlyLabelledMaskHead".
    frames.UNMASKED = "error"
    # Crowds, people cut down to a sliver, and pictures where not everybody has a box (metadata
    # boxes_complete False), in training: "drop" leaves crowds out, so that they are background, as
    # in Detectron2; "ignore" lets them carry no loss, which needs
    # MODEL.PROPOSAL_GENERATOR.NAME "IgnoringRPN" and MODEL.ROI_HEADS.NAME "IgnoringROIHeads" or
    # "IgnoringCascadeROIHeads".
    frames.CROWDS = "drop"
    # Probability that a training frame is composed of four, 0-1, and its (height, width), px.
    frames.MOSAIC_PROB = 0.0
    frames.MOSAIC_SIZE = (256, 320)

    clip = inp.CLIP = CN()
    # Frames per training clip, T >= 1.
    clip.LENGTH = 5
    # Distance between neighbouring frames of a clip, >= 1.
    clip.STRIDE = 1

    aug = inp.AUG = CN()
    # (*) Range of the random scale factor, (low, high); () = default, (1, 1) = none.
    aug.SCALE_RANGE = ()
    # (*) Largest rotation, degrees; below 0 = default, 0 = none.
    aug.ROTATION = -1.0
    # Probability of a horizontal flip, 0-1.
    aug.FLIP_PROB = 0.5
    # Largest shift of the region, as a share of the crop.
    aug.TRANSLATION = 0.0
    # Largest relative change of brightness, contrast and saturation, 0 = none; of clips and frames.
    aug.COLOR = 0.0
    # Probability that a random rectangle (share of the crop: OCCLUSION_SIZE) is covered, and range
    # of the share of the clip's frames that it covers, in a row: (1, 1) covers the whole clip; in a
    # shorter span only memory knows what lies behind it.
    aug.OCCLUSION_PROB = 0.0
    aug.OCCLUSION_SIZE = (0.1, 0.3)
    aug.OCCLUSION_SPAN = (1.0, 1.0)

    # What fills the rectangle: "pad" (PAD_VALUE) or "color" (a random colour with noise).
    aug.OCCLUSION_FILL = "pad"
    # Largest shift of each edge of the box, as a share of its side: a detector's boxes are off so.
    aug.BOX_JITTER = 0.0
    # The same, drawn anew for every frame and added: a tracked box trembles.
    aug.BOX_JITTER_FRAME = 0.0
    # Probability that the box is that of the upper or of the lower body alone, 0-1.
    aug.HALF_BODY_PROB = 0.0
    # Probability of a Gaussian blur of the crop (standard deviation up to BLUR_SIGMA px), and of a
    # crop that comes from a picture of 1 / factor of its resolution, factor in LOW_RES_RANGE; 0-1.
    aug.BLUR_PROB = 0.0
    aug.BLUR_SIGMA = (0.5, 2.0)
    aug.LOW_RES_PROB = 0.0
    aug.LOW_RES_RANGE = (1.5, 4.0)

    # Bytes of decoded video frames that one loader worker keeps.
    inp.FRAME_CACHE_BYTES = 256 * 1024 * 1024


def _add_solver_keys(cfg: CN) -> None:
    solver = cfg.SOLVER
    # One of OPTIMIZERS, in upper or lower case.
    solver.OPTIMIZER = "SGD"
    # Adam's coefficients.
    solver.ADAM_BETAS = (0.9, 0.999)
    # Factor on the learning rate of every bias (2 in the Caffe recipe of LSTM Pose Machines).
    solver.BIAS_LR_MULTIPLIER = 1.0
    # Weight decay of every one-dimensional parameter that is no norm's; below 0: as WEIGHT_DECAY.
    solver.BIAS_DECAY = -1.0
    # Clip gradients by their global norm (over all parameters) to this value; 0 = off.
    # SOLVER.CLIP_GRADIENTS of Detectron2 clips each parameter apart, and must be off.
    solver.CLIP_GLOBAL_NORM = 0.0
    # Precision of autocast when SOLVER.AMP.ENABLED: "auto" (float16 on GPU, bfloat16 on a CPU that
    # has instructions for it, else float32), "bfloat16" or "float16" (GPU only).
    solver.AMP.PRECISION = "auto"
    # Exponential moving average of the weights, used for evaluation and the final checkpoint; 0 =
    # off.
    solver.EMA_DECAY = 0.0
    # Whether a run may be resumed by another number of processes, which gives other weights than
    # the uninterrupted run has.
    solver.RESUME_OTHER_PROCESSES = False
    # Seconds between checkpoints that a killed run resumes from; 0 = only every CHECKPOINT_PERIOD.
    solver.CHECKPOINT_SECONDS = 300


def _add_test_keys(cfg: CN) -> None:
    test = cfg.TEST
    # Frames of a track that go through the network at once; the result does not depend on it.
    test.CHUNK_LENGTH = 16
    # What computes at inference: "torch", "openvino", "onnx" (ONNX Runtime), one that a plugin
    # registers, or "auto": PyTorch on a GPU; on a CPU OpenVINO where it is installed, else ONNX
    # Runtime, else PyTorch. Evaluations within a training, whose weights change, take PyTorch for
    # "auto". See docs/SPEED.md.
    test.BACKEND = "auto"
    # Whether PyTorch computes recurrent models in their fast form (modeling/fast_path.py), a copy
    # with folded norms and merged convolutions whose heatmaps differ by rounding alone. False: the
    # modules as they are trained, by PyTorch where BACKEND is "auto".
    test.FAST = True
    # torch.compile of the fast form: "off", "kernels" (needs a C++ compiler on a CPU) or "graphs"
    # (CUDA graphs, on a GPU). What does not work here is left out, with one line of log.
    test.COMPILE = "off"
    # Scales of the multi-scale test, as SCALE_MODE means them; maps are summed at image size. These
    # and the next ones are of clips; R-CNNs have TEST.AUG.
    test.SCALES = (1.0,)
    # Also run the mirrored clip and average: of every track, and of those of one frame alone, a
    # photo's, which no memory helps.
    test.FLIP = False
    test.FLIP_STILLS = False
    # As SCALES, for tracks of one frame alone; empty: SCALES.
    test.SCALES_STILLS = ()
    # Whether people in photos are found on the images of TEST.AUG (sizes, mirrored), of a detector.
    test.AUG.STILLS = False
    # On these images: IoU of boxes of which one suppresses the other (0: the heads'), proposals of
    # each image (0: the RPN's), and whether boxes that agree are averaged (modeling/rcnn_parts.py).
    test.AUG.NMS_THRESH = 0.0
    test.AUG.PROPOSALS = 0
    test.AUG.VOTE = False
    # Drop the recurrent state every n frames; 0 = carry it over the whole track.
    test.RESET_EVERY = 0
    # Largest shift of each edge of every given box in an evaluation of clips, as a share of its
    # side, 0 to below 0.5: what a detector's trembling boxes cost. It follows from video, track and
    # frame alone; the boxes that PCK measures with stay.
    test.BOX_JITTER = 0.0
    # Frames run before each labelled frame from a fresh state, on tracks that are too long to be
    # run whole (BBC Pose); below 0: the whole track.
    test.WARMUP_FRAMES = -1
    # Precision of inference: "float32", "bfloat16", "float16" or "auto": float16 on a GPU; on a CPU
    # bfloat16 where it is faster (matrix units, or a convolution that is timed once), else float32.
    # What the device or the backend cannot do becomes float32, with one line of log.
    test.PRECISION = "float32"

    over = test.OVER_TIME = CN()
    # What a frame's pose may go by: "causal", itself and the frames before; "lag", LAG frames after
    # it as well; "offline", the whole track. The latter two correct poses over time
    # (modeling/sequences.py); of recurrent models alone.
    over.MODE = "causal"
    over.LAG = 4
    # File of the network that corrects; "auto": refiner.safetensors beside MODEL.WEIGHTS where
    # there is one; "" smooths.
    over.REFINER = "auto"
    # Put left and right back where they change places from one frame to the next.
    over.REPAIR_SIDES = False

    # Evaluators, of "pck", "coco" (AP of boxes, masks and keypoints), "people" (several in a frame,
    # and their identity) and those of plugins, as far as model and dataset have something for them.
    test.EVALUATORS = ("pck", "coco", "people")

    # In the demo and the predictor, people whose pose scores less (mean of the better half of the
    # joints' scores) are not shown, 0 to 1.
    test.PERSON_THRESHOLD = 0.2

    pck = test.PCK = CN()
    # Whose pose counts for a labelled person, where a detector found several in a frame: "score",
    # the surest one, or "overlap", the one whose box overlaps the ground-truth box most (each
    # detection for one person at most; without any overlap the person is missed). On image
    # datasets, whose pictures show several people, it is always "overlap".
    pck.PERSON = "score"
    # (*) Protocols to report: of "bbox", "torso", "torso_diagonal", "head", "mpii_head", "pixels"
    # and those of plugins; () = the dataset's.
    pck.PROTOCOLS = ()
    # Write the predictions of each dataset to OUTPUT_DIR/inference/<dataset>/predictions.npz.
    pck.SAVE_PREDICTIONS = True
