#!/usr/bin/env python3
"""Feed damaged and hostile files to every reader, and count what the readers answer.

    python dev/fuzz.py --seconds 60 --seed 0
    python dev/fuzz.py --readers weights.pth config --seconds 20 --show

Answers: **clear**, one line with the file's name; **unclear**, a line without it; **traceback**, an
error that is no user's; **hang**; **crash** of the process; **executed**, the file ran code;
**silent**, a file with check sums was taken although its content had changed; **taken**, the file
is as good as any other (a digit of a number may become another digit). It ends with status 1 where
anything was executed, hung, crashed or silent, or where 1 % or more are unclear or tracebacks.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import io
import json
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import onnx
import openvino
import scipy.sparse
import torch
from PIL import Image
from safetensors.torch import save

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from scipy.io import savemat

from video_pose.backends.graphs import NAMES, VERSION, describe_model, write_description
from video_pose.backends.pose import GraphBackend
from video_pose.backends.runtimes import load_graph
from video_pose.data.datasets.coco_video import register_video_keypoints
from video_pose.data.mat_file import load_mat
from video_pose.engine.checkpointer import PoseCheckpointer
from video_pose.engine.defaults import load_cfg
from video_pose.evaluation.calibration import Calibration
from video_pose.evaluation.predictions import read_predictions
from video_pose.evaluation.score import read_annotations
from video_pose.heatmap_codec import HeatmapCodec
from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers import Recording, open_writers, read_poses, result_paths
from video_pose.video_io.reading import probe_video
from video_pose.weights.reader import read_weights

# Of the processor, and of the clock, which a busy machine needs more of.
HANG_SECONDS, HANG_WAIT = 10, 120
USER_ERRORS = (ValueError, KeyError, OSError)
BAD = ("executed", "hang", "crash", "silent")
VAGUE = ("unclear", "traceback")


@dataclass(frozen=True)
class Reader:
    """What is fuzzed.

    Attributes:
        name: of the file, whose ending counts. sample: bytes of a good file.
        read: reads a path; what it returns is compared where the format has check sums.
        kind: of mutations: "bytes", "json" or "yaml".
    """

    name: str
    sample: bytes
    read: Callable[[Path], Any]
    kind: str = "bytes"
    has_sums: bool = False


class Canary:
    """Unpickled, it leaves a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


# ---- readers


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"a.weight": torch.rand(4, 3, generator=generator), "a.bias": torch.ones(4)}


def saved(content: Any, archive: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=archive)
    return buffer.getvalue()


def digest(content: dict[str, Any]) -> str:
    return repr({key: value.tolist() for key, value in sorted(content["model"].items())})


def resume(path: Path) -> str:
    """The run whose folder ``path`` is ``last_checkpoint`` of."""
    return PoseCheckpointer(torch.nn.Linear(3, 4), str(path.parent)).get_checkpoint_file()


def read_coco_video(path: Path) -> int:
    name = f"fuzz {path}"
    try:
        register_video_keypoints(name, str(path), str(path.parent))
        return len(DatasetCatalog.get(name))
    finally:
        for registered in (name, f"{name}_frames"):
            if registered in DatasetCatalog.list():
                DatasetCatalog.remove(registered)
            if registered in MetadataCatalog.list():
                MetadataCatalog.remove(registered)


def coco_sample() -> bytes:
    image = {"id": 1, "file_name": "a.jpg", "video_id": "a", "frame_id": 0}
    second = {**image, "id": 2, "file_name": "b.jpg", "frame_id": 1}
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 1]}
    person |= {"bbox": [1, 1, 5, 5], "track_id": 0, "area": 25, "iscrowd": 0}
    content = {
        "images": [{**one, "width": 9, "height": 9} for one in (image, second)],
        "annotations": [person, {**person, "id": 2, "image_id": 2}],
        "categories": [{"id": 1, "name": "person", "keypoints": ["head", "neck"]}],
    }
    return json.dumps(content).encode()


CVAT_SAMPLE = b"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><job><start_frame>10</start_frame>
<labels><label><name>person</name><type>skeleton</type></label>
<label><name>head</name><type>points</type><parent>person</parent></label></labels>
<original_size><width>64</width><height>48</height></original_size></job>
<source>walk.mp4</source></meta><track id="3" label="person" source="manual">
<skeleton frame="1" keyframe="1"><points label="head" outside="0" occluded="1" points="20.5,8.00"/>
</skeleton></track><track id="4" label="person">
<box frame="1" outside="0" xtl="1" ytl="2" xbr="11" ybr="22"/></track></annotations>"""
DEEPLABCUT_SAMPLE = b"""scorer,,,me,me,me,me
individuals,,,ann,ann,bob,bob
bodyparts,,,nose,nose,nose,nose
coords,,,x,y,x,y
labeled-data,walk,img002.png,1.0,2.0,,
labeled-data,walk,img010.png,3.0,4.0,30,40
"""


def label_studio_sample() -> bytes:
    point = {"id": "k", "type": "keypointlabels", "original_width": 200, "original_height": 100}
    box = {**point, "id": "r", "type": "rectanglelabels"}
    point |= {"value": {"x": 25, "y": 50, "keypointlabels": ["nose"]}, "parentID": "r"}
    box["value"] = {"x": 1, "y": 2, "width": 30, "height": 40, "rectanglelabels": ["person"]}
    task = {"id": 5, "data": {"image": "/data/upload/1/0a1b2c3d-v_0007.jpg"}}
    return json.dumps([{**task, "annotations": [{"result": [box, point]}]}]).encode()


def add_pictures(folder: Path) -> None:
    """Those of the DeepLabCut sample, whose sizes no label tells."""
    place = folder / "labeled-data" / "walk"
    place.mkdir(parents=True)
    for name in ("img002.png", "img010.png"):
        Image.new("RGB", (64, 48)).save(place / name)


def predictions_sample() -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        predictions=np.zeros((2, 3, 3), np.float32),
        ground_truth=np.ones((2, 3, 3), np.float32),
        boxes=np.ones((2, 4), np.float32),
        video_ids=np.array(["a", "a"]),
        track_ids=np.array(["0", "0"]),
        frame_indices=np.array([0, 1]),
        joint_names=np.array(["x", "y", "z"]),
        dataset_name=np.array("walks"),
    )
    return buffer.getvalue()


def mat_sample(**options: Any) -> bytes:
    buffer = io.BytesIO()
    content = {"x": np.ones((2, 3)), "name": "clip", "visibility": np.eye(3)}
    if not options:
        people = np.zeros((1, 2), dtype=[("name", "O"), ("joints", "O")])
        people[0, 0], people[0, 1] = ("a", np.ones((1, 2))), ("b", np.array(["x", "y"], object))
        content["people"] = people
        content["sparse"] = scipy.sparse.csc_array(np.eye(3))
    savemat(buffer, content, **options)
    return buffer.getvalue()


def hdf5_sample() -> bytes:
    """As MATLAB's ``save -v7.3``: its header before the file, references between its parts."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        file.create_dataset("x", data=np.ones((3, 2))).attrs["MATLAB_class"] = np.bytes_("double")
        letters = file.create_dataset("name", data=np.array([[99], [108]], np.uint16))
        letters.attrs["MATLAB_class"] = np.bytes_("char")
        cell = np.array([[file["x"].ref], [letters.ref]], h5py.ref_dtype)
        file.create_dataset("cell", data=cell).attrs["MATLAB_class"] = np.bytes_("cell")
        file.create_dataset("packed", data=np.eye(9), compression="gzip")
        struct = file.create_group("one")
        struct.attrs["MATLAB_class"] = np.bytes_("struct")
        struct.create_dataset("y", data=np.ones((1, 1)))
    return buffer.getvalue()


def video_sample(folder: Path) -> bytes:
    path = folder / "sample.mp4"
    random_numbers = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            picture = random_numbers.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path.read_bytes()


def calibration_sample(folder: Path) -> bytes:
    curve = ((0.1, 0.9), (0.2, 0.8))
    Calibration({"": curve, "head": curve}, "clips", {"": curve}).write(folder / "calibration.json")
    return (folder / "calibration.json").read_bytes()


def poses_sample(folder: Path, kind: str) -> bytes:
    frames = [
        PoseFrame(
            index=n, time=n / 25, image=np.zeros((9, 9, 3), np.uint8), video="sample",
            joint_names=("head", "neck"), keypoints=np.full((1, 2, 3), 0.5, np.float32),
            boxes=np.ones((1, 4), np.float32), scores=np.ones(1, np.float32),
            track_ids=np.zeros(1, np.int64),
        )
        for n in range(3)
    ]  # fmt: skip
    (writer,) = open_writers([kind], folder, Recording("sample", ("head", "neck")))
    for frame in frames:
        writer.write(frame)
    writer.close()
    return result_paths([kind], folder, "sample")[kind].read_bytes()


def description_sample(folder: Path) -> bytes:
    """``model.json`` of an exported model whose graphs, all the same, give back what they take;
    the last is there in OpenVINO's format as well."""
    number = onnx.TensorProto.FLOAT
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, number, [None, 2])] for name in ("in0", "out")
    )
    node = onnx.helper.make_node("Identity", ["in0"], ["out"])
    graph = onnx.helper.make_graph([node], "graph", inputs, outputs)
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    (folder / "export").mkdir()
    for name in NAMES:
        onnx.save(model, folder / "export" / f"{name}.onnx")
    openvino.save_model(openvino.convert_model(folder / "export/encode.onnx"), folder / "graph.xml")
    cfg = export_cfg()
    codec = HeatmapCodec.from_config(cfg)
    write_description(
        folder / "export",
        {
            "version": VERSION, "format": "onnx", "precision": "float32", "state": ["fresh"],
            "returned": ["new_fresh"],
            **describe_model(
                cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.POSE.JOINTS, codec, cfg.INPUT.CROP_SIZE
            ),
        },
    )  # fmt: skip
    return (folder / "export" / "model.json").read_bytes()


@functools.cache
def export_cfg() -> CfgNode:
    """Of the model that the exported folder says it is of."""
    return load_cfg("", ["MODEL.META_ARCHITECTURE", "UniPose"], complete=False)


def read_export(path: Path) -> str:
    """The folder of graphs whose ``model.json`` this file takes the place of."""
    shutil.copy(path, path.parent / "export" / path.name)
    return GraphBackend.from_folder(path.parent / "export", export_cfg()).describe()


def all_readers(folder: Path) -> list[Reader]:
    model = {"model": tensors(), "iteration": 3}
    arrays = {name: value.numpy() for name, value in tensors().items()}
    zoo = {"model": arrays, "__author__": "x", "matching_heuristics": True}
    config = b"MODEL:\n  POSE:\n    JOINTS: [a, b]\nSOLVER:\n  STEPS: (1, 2)\nSEED: 3\n"

    def weights(path: Path) -> str:
        return digest(read_weights(path))

    def matlab(path: Path) -> dict[str, Any]:
        return load_mat(str(path))

    add_pictures(folder)
    return [
        Reader("weights.pth", saved(model), weights, has_sums=True),
        Reader("legacy.pth", saved(model, archive=False), weights),
        Reader("weights.pkl", pickle.dumps(zoo, protocol=2), weights),
        Reader("tensors.pkl", pickle.dumps({"model": tensors(), "__author__": "x"}), weights),
        Reader("weights.safetensors", save(tensors(), {"joints": "a,b"}), weights),
        Reader("last_checkpoint", b"model_final.pth", resume),
        Reader("config.yaml", config, lambda path: load_cfg(str(path), complete=False), "yaml"),
        Reader("annotations.json", coco_sample(), read_coco_video, "json"),
        Reader("cvat.xml", CVAT_SAMPLE, read_coco_video),
        Reader("label_studio.json", label_studio_sample(), read_coco_video, "json"),
        Reader("deeplabcut.csv", DEEPLABCUT_SAMPLE, read_coco_video),
        Reader("scored.json", coco_sample(), read_annotations, "json"),
        Reader("calibration.json", calibration_sample(folder), Calibration.read, "json"),
        Reader("predictions.npz", predictions_sample(), read_predictions),
        Reader("labels.mat", mat_sample(), matlab),
        Reader("packed.mat", mat_sample(do_compression=True), matlab),
        Reader("old.mat", mat_sample(format="4"), matlab),
        Reader("hdf5.mat", hdf5_sample(), matlab),
        Reader("video.mp4", video_sample(folder), read_video),
        Reader("poses.jsonl", poses_sample(folder, "jsonl"), read_poses, "json lines"),
        Reader("poses.csv", poses_sample(folder, "csv"), read_poses),
        Reader("poses.parquet", poses_sample(folder, "parquet"), read_poses),
        Reader("p.coco_dataset.json", poses_sample(folder, "coco_dataset"), read_poses, "json"),
        Reader("model.json", description_sample(folder), read_export, "json"),
        Reader("graph.onnx", (folder / "export" / "encode.onnx").read_bytes(), load_graph),
        Reader("graph.xml", (folder / "graph.xml").read_bytes(), load_graph),
    ]


def read_video(path: Path) -> int:
    return probe_video(str(path))[0]


# ---- mutations


def mutations(reader: Reader, rng: random.Random, canary: str) -> Iterator[bytes]:
    """Endless bytes of bad files."""
    yield from (b"", b"\x00", b"\xff" * 64, b"PK\x03\x04", b"PK\x03\x04" + b"\x00" * 200)
    yield from hostile(canary)
    while True:
        if reader.kind.startswith("json") and rng.random() < 0.7:
            yield mutate_json(reader, rng)
        elif reader.kind == "yaml" and rng.random() < 0.5:
            yield mutate_yaml(reader.sample, rng, canary)
        else:
            yield mutate_bytes(reader.sample, rng)


def hostile(canary: str) -> list[bytes]:
    """Files that would run code in a reader that trusts them."""
    payload = Canary(canary)
    contents = [payload, {"model": {}, "__author__": payload}, {"model": {"a": payload}}]
    files = [pickle.dumps(one, protocol) for one in contents for protocol in (0, 2, 4)]
    files += [saved(contents[1])]
    array = io.BytesIO()
    np.savez(array, predictions=np.array([payload], object))
    files += [array.getvalue()]
    tag = f"!!python/object/apply:os.mkdir ['{canary}']"
    files += [f"SEED: {tag}\n".encode(), f"{tag}\n".encode()]
    files += [b"_BASE_: config.yaml\n", b"A: &a [*a]\n", b"A: " + b"[" * 5000, b"{" * 5000]
    names = "abcdefghi"
    bomb = ["A:", "- &a [x,x,x,x,x,x,x,x,x,x]"]
    bomb += [f"- &{b} [{','.join(['*' + a] * 10)}]" for a, b in zip(names, names[1:])]
    return [*files, "\n".join(bomb).encode(), f"../{'x' * 300}".encode(), b"/etc/passwd"]


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        kind = rng.randrange(6)
        place = rng.randrange(max(1, len(out)))
        if kind == 0 and out:
            out[place % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[place:]
        elif kind == 2:
            del out[place : place + rng.randrange(1, 20)]
        elif kind == 3:
            out[place:place] = rng.randbytes(rng.randrange(1, 20))
        elif kind == 4:
            out[place : place + 4] = rng.choice((b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff"))
        else:
            other = rng.randrange(max(1, len(out)))
            out[place : place + 16], out[other : other + 16] = (
                out[other : other + 16],
                out[place : place + 16],
            )
    return bytes(out)


_VALUES: list[Any] = [
    *(None, True, -1, 0, 1e300, 10**30, "", "x", "é", [], {}, [None], {"a": 1}, [[1]], -0.5),
    *(float("nan"), float("inf"), "0", "1e9", [1, 2], "../../x", "\u0000"),
]


def mutate_json(reader: Reader, rng: random.Random) -> bytes:
    lines = reader.sample.decode().splitlines() if reader.kind == "json lines" else []
    at = rng.randrange(len(lines)) if lines else 0
    tree = json.loads(lines[at] if lines else reader.sample)
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(tree))
        holder, key = rng.choice(places)
        if rng.random() < 0.2 and isinstance(holder, dict):
            holder.pop(key, None)
        elif isinstance(holder, dict) or key < len(holder):
            # A copy: the second change may be within the first.
            holder[key] = copy.deepcopy(rng.choice(_VALUES))
    text = json.dumps(tree)
    if lines:
        text = "\n".join([*lines[:at], text, *lines[at + 1 :]])
    return text.encode("latin-1" if rng.random() < 0.02 else "utf-8", "replace")


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(entries):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def mutate_yaml(data: bytes, rng: random.Random, canary: str) -> bytes:
    words = ["null", "[1]", "{}", "'x'", "1e400", "&a", "*a", "!!binary x", "- ", ": ", "(1,", "\t"]
    words += [f"!!python/object/apply:os.mkdir ['{canary}']", "!!set {a}", "2020-99-01", "é"]
    lines = data.decode().splitlines()
    at = rng.randrange(len(lines))
    key = lines[at].partition(":")[0]
    lines[at] = rng.choice((f"{key}: {rng.choice(words)}", rng.choice(words), f"{key}x: 1"))
    return "\n".join(lines).encode("latin-1" if rng.random() < 0.1 else "utf-8")


# ---- runs


class _Hang(BaseException):
    """Raised by the alarm; no reader's ``except Exception`` takes it."""


def _on_alarm(number: int, frame: Any) -> None:
    raise _Hang


def judge(reader: Reader, path: Path, expected: Any, canary: str) -> tuple[str, str]:
    """(answer, what was raised) of one file."""
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.signal(signal.SIGPROF, _on_alarm)
    signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
    signal.alarm(HANG_WAIT)
    answer, text = "taken", ""
    try:
        found = reader.read(path)
        if reader.has_sums and found != expected:
            answer, text = "silent", str(found)[:200]
    except _Hang:
        answer = "hang"
    except USER_ERRORS as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        text = f"{type(error).__name__}: {text}"
        answer = "clear" if path.name in text and "\n" not in text else "unclear"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
        answer = "traceback"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    if os.path.isdir(canary):
        os.rmdir(canary)
        answer = "executed"
    return answer, text


def work(reader: Reader, folder: Path, seed: str, numbers: range, seconds: float, out: int) -> None:
    """In a process of its own: judge the files of these numbers, and write one line of JSON for
    each."""
    rng = random.Random(seed)
    canary = str(folder / "canary")
    path = folder / reader.name
    path.write_bytes(reader.sample)
    expected = reader.read(path)
    end = time.monotonic() + seconds
    for number, content in enumerate(mutations(reader, rng, canary)):
        if time.monotonic() > end or number >= numbers.stop:
            return
        if number < numbers.start:
            continue
        if content == reader.sample:
            continue
        path.write_bytes(content)
        os.write(out, f"{number}\n".encode())  # known to the parent if this one is the last
        answer = judge(reader, path, expected, canary)
        os.write(out, (json.dumps([number, *answer]) + "\n").encode())


def fuzz(
    reader: Reader, folder: Path, seed: int, seconds: float, inputs: int, show: bool = False
) -> Counter[str]:
    """Answers of one reader to at most so many inputs, counted."""
    counts: Counter[str] = Counter()
    end, skip = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        source, sink = os.pipe()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                os.close(source)
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
                left = range(skip, inputs)
                work(reader, folder, f"{seed} {reader.name}", left, end - time.monotonic(), sink)
                os._exit(0)
            os._exit(9)
        os.close(sink)
        begun = -1
        with os.fdopen(source, encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith("["):
                    begun = int(line)
                    continue
                number, answer, text = json.loads(line)
                counts[answer] += 1
                begun, skip = -1, number + 1
                if show and answer not in ("clear", "taken"):
                    print(f"{reader.name} {number} {answer}: {text[:300]}")
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            break
        if begun < 0:
            raise RuntimeError(f"{reader.name}: the good file is refused, or the harness is broken")
        counts["crash"] += 1
        skip = begun + 1
        if show:
            print(f"{reader.name} {begun} crash: status {status}")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="in all (60)")
    parser.add_argument("--inputs", type=int, default=sys.maxsize, help="of each reader, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", help="names of their files; default: all")
    parser.add_argument("--show", action="store_true", help="print what is not clear")
    args = parser.parse_args()
    columns = ("clear", "taken", "unclear", "traceback", "silent", "executed", "hang", "crash")
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        readers = all_readers(Path(temporary))
        if args.readers:
            readers = [reader for reader in readers if reader.name in args.readers]
        print(f"| reader | inputs | {' | '.join(columns)} |")
        print("|---|" + "---|" * (len(columns) + 1))
        for reader in readers:
            share = args.seconds / len(readers)
            counts = fuzz(reader, Path(temporary), args.seed, share, args.inputs, args.show)
            total += counts
            cells = [sum(counts.values()), *(counts[name] for name in columns)]
            print(f"| {reader.name} | {' | '.join(map(str, cells))} |", flush=True)
        cells = [sum(total.values()), *(total[name] for name in columns)]
        print(f"| all | {' | '.join(map(str, cells))} |")
    vague = sum(total[name] for name in VAGUE)
    bad = any(total[name] for name in BAD) or vague >= 0.01 * max(1, sum(total.values()))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
