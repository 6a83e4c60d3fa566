from __future__ import annotations

import os
import socket
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from PIL import Image

from video_pose.inference import inputs
from video_pose.inference.inputs import Input, find_files, find_inputs, natural_order
from video_pose.inference.sources import ImageSource, open_source


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def _names(inputs: list) -> list[str]:
    return [item.name for item in inputs]


def test_natural_order_mixes_names_and_numbers() -> None:
    expected = ["", "1", "02", "10", "a", "a9", "a9b", "a10", "a10.5", "a10.11", "b1"]
    assert natural_order(expected[::-1]) == expected


def test_videos_of_a_folder_or_pattern_are_sources_of_their_own(tmp_path: Path) -> None:
    _touch(tmp_path, "clip10.mp4", "clip2.MOV", "notes.txt", "raw.h264")
    inputs = find_inputs([str(tmp_path)])
    assert _names(inputs) == ["clip2", "clip10", "raw"]
    assert inputs[0].spec == str(tmp_path / "clip2.MOV") and inputs[0].files == (inputs[0].spec,)
    assert _names(find_inputs([str(tmp_path / "*.mp4")])) == ["clip10"]
    assert _names(find_inputs([str(tmp_path / "clip[0-9].*"), 1])) == ["clip2", "camera1"]
    with pytest.raises(FileNotFoundError, match="no video and no image in .*mkv"):
        find_inputs([str(tmp_path / "*.mkv")])


def test_pictures_are_one_sequence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _touch(tmp_path, "walk/f1.png", "walk/f2.png")
    folder = str(tmp_path / "walk")
    (item,) = find_inputs([folder])
    assert item.spec == folder and item.name == "walk" and len(item.files) == 2
    (item,) = find_inputs([f"{folder}/f2.png", f"{folder}/f1.png"])
    assert item.spec == [f"{folder}/f2.png", f"{folder}/f1.png"] and item.name == "images"
    _touch(tmp_path, "walk/a.mp4")
    sequence, video = find_inputs([folder])
    assert sequence.spec == [f"{folder}/f1.png", f"{folder}/f2.png"] and sequence.name == "walk"
    assert video.spec == f"{folder}/a.mp4"
    _touch(tmp_path, "walk/b.mp4")
    assert _names(find_inputs([folder])) == ["walk", "a", "b"]
    text = "its 2 images are one sequence, its %d videos one source each"
    assert caplog.messages == [f"{folder}: {text % count}" for count in (1, 2)]


@pytest.mark.parametrize("name", ["photo", "photo.jfif", "photo.jpg_large", "photo.1"])
def test_a_picture_of_any_name_is_one(tmp_path: Path, name: str) -> None:
    """Upright, and no video of one frame; only names that tell of pictures count in folders."""
    exif = Image.Exif()
    exif[0x112] = 6
    path = str(tmp_path / name)
    Image.new("RGB", (8, 4)).save(path, "JPEG", exif=exif)
    (item,) = find_inputs([path])
    assert item.is_photo
    source = open_source(item.spec)
    assert isinstance(source, ImageSource)
    assert [frame.image.shape for frame in source] == [(8, 4, 3)]
    assert isinstance(find_inputs([path, path])[0].spec, list)
    assert find_files(str(tmp_path)) == ([path] if name.endswith(".jfif") else [])


def _photo(path: Path, taken: str) -> str:
    exif = Image.Exif()
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return str(path)


@pytest.mark.parametrize(
    ("names", "taken", "doubtful"),
    [
        (["f1.jpg", "f2.jpg", "f10.jpg"], "", False),
        (["anna.jpg", "ben.jpg"], "", True),
        (["v-1_jpg.rf.0ab1.jpg", "v-2_jpg.rf.c3d.jpg"], "", False),  # as Roboflow names frames
        (["IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg"], "2024:05:01 10:00:%02d", False),  # a burst
        (["IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg"], "2024:05:01 10:%02d:00", True),
        (["IMG_1.jpg", "IMG_2.jpg"], "no time %d", False),
        (["anna.jpg"], "2024:05:01 10:%02d:00", False),
    ],
)
def test_pictures_that_seem_to_be_photos(
    tmp_path: Path, names: list[str], taken: str, doubtful: bool
) -> None:
    for number, name in enumerate(names):
        _photo(tmp_path / name, taken % number if taken else "")
    (item,) = find_inputs([str(tmp_path)])
    assert item.is_doubtful == doubtful
    named = find_inputs([str(tmp_path / name) for name in names])
    assert [item.is_doubtful for item in named] == [doubtful]
    photos = find_inputs([str(tmp_path)], photos=True)
    assert [item.is_doubtful for item in photos] == [False] * len(names)


def test_names_of_outputs_are_all_different(tmp_path: Path) -> None:
    _touch(tmp_path, "a/v.mp4", "b/v.mp4", "c/V.avi", "v.mp4/x.png")
    specs = [f"{tmp_path}/{name}" for name in ("a/v.mp4", "b/v.mp4", "c/V.avi", "v.mp4")]
    assert _names(find_inputs(specs)) == ["v", "v_2", "V_3", "v.mp4"]
    assert _names(find_inputs(["rtsp://camera/live", "camera:3"])) == ["live", "camera3"]


def test_hidden_and_system_files_are_passed_over(tmp_path: Path) -> None:
    hidden = [".x.png", "._a.png", ".a.mp4", "Thumbs.db", "desktop.ini", "~$a.png"]
    _touch(tmp_path, "a.png", *hidden, "__MACOSX/._a.png", "@eaDir/a.png", "sub/b.png", ".g/c.png")
    assert find_files(str(tmp_path)) == [str(tmp_path / "a.png")]
    assert find_files(str(tmp_path / "**" / "*.png")) == [
        str(tmp_path / "a.png"), str(tmp_path / "sub" / "b.png"),
    ]  # fmt: skip
    # One that is named is meant.
    assert find_inputs([str(tmp_path / ".a.mp4")])[0].spec == str(tmp_path / ".a.mp4")


def test_what_is_no_file_is_skipped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _touch(tmp_path, "a.png", "b.jxl", "sub/c.png")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "up").symlink_to(tmp_path, target_is_directory=True)
    with socket.socket(socket.AF_UNIX) as server:
        place = os.getcwd()
        os.chdir(tmp_path)  # the names of sockets are short
        server.bind("socket.jpg")
        os.chdir(place)
        assert find_files(str(tmp_path)) == [str(tmp_path / "a.png")]
    assert "no regular file" in caplog.text and "of a kind that is not read" in caplog.text
    for name in ("pipe.mp4", "self.png", "socket.jpg", "b.jxl"):
        assert name in caplog.text
    assert len(find_files(str(tmp_path / "**" / "*.png"))) == 2


def test_every_picture_is_a_photo_where_that_is_said(tmp_path: Path) -> None:
    _touch(tmp_path, "album/p1.png", "album/p10.jpg", "album/p2.png", "album/a.mp4")
    album = str(tmp_path / "album")
    inputs = find_inputs([album], photos=True)
    assert _names(inputs) == ["a", "p1", "p2", "p10"]
    assert [item.is_photo for item in inputs] == [False, True, True, True]
    files = [f"{album}/p2.png", f"{album}/p1.png"]
    assert [item.spec for item in find_inputs(files, photos=True)] == files
    assert not find_inputs(files)[0].is_photo


def test_an_animation_is_no_photo(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    pages[0].save(tmp_path / "two.tiff", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tiff")
    (two,), (one,) = (find_inputs([str(tmp_path / name)]) for name in ("two.tiff", "one.tiff"))
    assert (two.is_photo, one.is_photo) == (False, True)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_three_of_those_skipped_are_named(tmp_path: Path, caplog, count: int) -> None:
    _touch(tmp_path, "a.png", *(f"b{i}.jxl" for i in range(count)))
    find_files(str(tmp_path))
    names = ", ".join(f"{tmp_path}/b{i}.jxl" for i in range(min(count, 3)))
    more = f" and {count - 3} more" if count > 3 else ""
    assert caplog.messages == [f"skipped, of a kind that is not read: {names}{more}"]


def test_patterns_that_reach_into_folders(tmp_path: Path, monkeypatch) -> None:
    """From the working folder as well; a hidden folder above the pattern is no obstacle."""
    _touch(tmp_path, ".up/a/1.png", ".up/a/b/2.png", ".up/3.png", ".up/a/.h/4.png")
    root = tmp_path / ".up"
    found = find_files(f"{root}/**/*.png")
    assert found == [f"{root}/{name}" for name in ("3.png", "a/1.png", "a/b/2.png")]
    assert find_files(f"{root}/a/**/*.png") == found[1:]
    # Two stars beside other letters are one; a pattern may come before the folders.
    assert find_files(f"{root}/a/**.png") == find_files(f"{root}/*/1**") == found[1:2]
    assert (
        find_files(f"{root}/a**/**/*.png") == find_files(f"{root}/**/*a**/**/***.png") == found[1:]
    )
    assert find_files(f"{root}/*/**/*.png") == find_files(f"{root}/[a-c]/**/*.png") == found[1:]
    assert find_files(f"{root}/**") == find_files(f"{root}/**/absent.png") == []
    monkeypatch.chdir(root)
    assert find_files("**/*.png") == find_files("./**/*.png") == ["3.png", "a/1.png", "a/b/2.png"]
    assert find_files("a/**/*.png") == find_files("*/**/*.png") == ["a/1.png", "a/b/2.png"]
    monkeypatch.chdir(root / "a" / "b")
    assert find_files("../**/*.png") == ["../1.png", "../b/2.png"]


def test_pictures_of_a_pattern_have_their_folders_name(tmp_path: Path) -> None:
    _touch(tmp_path, "walk/f1.png", "walk/f2.png", "walk/a.mp4")
    (item,) = find_inputs([f"{tmp_path}/walk/f*.png"])
    assert (item.name, len(item.files), item.spec) == ("walk", 2, f"{tmp_path}/walk/f*.png")
    # Two of which one is a pattern are no list of pictures.
    assert len(find_inputs([f"{tmp_path}/walk/f1.png", f"{tmp_path}/walk/f*.png"])) == 2
    assert len(find_inputs([f"{tmp_path}/walk/f1.png", f"{tmp_path}/walk/a.mp4"])) == 2
    (one,) = find_inputs([f"{tmp_path}/walk/f1.png"])
    assert (one.name, one.spec) == ("f1", f"{tmp_path}/walk/f1.png")
    assert _names(find_inputs([f"{tmp_path}/absent.mp4", "camera:12", "rtsp://h/"])) == [
        "absent", "camera12", "h",
    ]  # fmt: skip


@pytest.mark.parametrize("photos", [False, True])
def test_what_a_user_names_alone(tmp_path: Path, photos: bool) -> None:
    """Nothing, a camera, a picture beside a camera, a file whose name looks like a pattern, a
    file that is missing; a folder without any is refused, by its name."""
    _touch(tmp_path, "a.png", "clip[1].mp4", "e/notes.txt")
    picture, video = f"{tmp_path}/a.png", f"{tmp_path}/clip[1].mp4"
    assert find_inputs([], photos) == []
    assert find_inputs([3], photos) == [Input(3, "camera3")]
    both = find_inputs([picture, 0], photos)
    assert both == [Input(picture, "a", (picture,)), Input(0, "camera0")]
    assert [item.is_photo for item in both] == [True, False]
    assert find_inputs([video], photos) == [Input(video, "clip[1]", (video,))]
    (absent,) = find_inputs([f"{tmp_path}/absent.png"], photos)
    assert absent.is_photo and absent.name == "absent"
    with pytest.raises(FrozenInstanceError):
        absent.name = "other"  # type: ignore[misc]
    for empty in (f"{tmp_path}/e", f"{tmp_path}/*.gif"):
        with pytest.raises(FileNotFoundError) as error:
            find_inputs([empty], photos)
        assert str(error.value) == f"no video and no image in {empty}"


def test_pictures_of_several_folders_are_named_by_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _touch(tmp_path, "a/x.png", "b/x.png", "c/x.png", "d/1.mp4", "d/2.mp4")
    (item,) = find_inputs([f"{tmp_path}/[a-c]/x.png"])
    assert item.name == "a" and item.files == tuple(f"{tmp_path}/{name}/x.png" for name in "abc")
    (one,) = find_inputs([f"{tmp_path}/b/*.png"])
    place = f"{tmp_path}/b/*.png"
    assert one == Input(place, "b", (f"{tmp_path}/b/x.png",), place)
    # A number that another file has already is passed over; the root folder has no name.
    _touch(tmp_path, "d/v.mp4", "e/v.mp4", "f/v_2.mp4", "g/v_2.avi")
    assert _names(find_inputs([f"{tmp_path}/[defg]/v*"])) == ["v", "v_2", "v_2_2", "v_2_3"]
    assert _names(list(inputs._with_own_names([Input("/", "/"), Input("/", "/")], {}))) == [
        "video", "video_2",
    ]  # fmt: skip
    assert caplog.messages == []


def test_a_folder_of_results_is_left_out_from_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _touch(tmp_path, "r/a/v.mp4", "r/out/v.mp4", "r/out/deep/v.mp4", "r/outer/v.mp4")
    root, out = f"{tmp_path}/r", f"{tmp_path}/r/out"

    def found(spec: str, *outputs: str) -> list[str]:
        return [item.files[0] for item in find_inputs([spec], outputs=outputs)]

    apart = [f"{root}/a/v.mp4", f"{root}/outer/v.mp4"]
    assert found(f"{root}/*/v.mp4", out) == found(f"{root}/**/*.mp4", out) == apart
    assert f"skipped, results in the output folder: {out}/deep/v.mp4, {out}/v.mp4" in caplog.text
    monkeypatch.chdir(root)
    assert found("*/v.mp4", "out/") == ["a/v.mp4", "outer/v.mp4"]
    os.symlink(out, f"{tmp_path}/link")
    assert found(f"{root}/*/v.mp4", f"{tmp_path}/link") == apart
    with pytest.raises(FileNotFoundError, match="no video and no image in"):
        found(f"{root}/o*/deep/*.mp4", out)
    # What is named itself is meant, and so is what lies in a folder that is named.
    assert found(f"{out}/v.mp4", out) == found(f"{out}/*.mp4", out) == found(out, out)
    assert found(f"{root}/a", str(tmp_path)) == [f"{root}/a/v.mp4"]


def test_pictures_without_those_that_are_results(tmp_path: Path) -> None:
    """Who opens the folder again would find all."""
    _touch(tmp_path, "a.png", "b.png", "drawn.jpg")
    (item,) = find_inputs([str(tmp_path)], made=[f"{tmp_path}/drawn.jpg"])
    files = [f"{tmp_path}/a.png", f"{tmp_path}/b.png"]
    assert item.spec == files and item.files == tuple(files) and item.name == tmp_path.name


def test_a_sequence_is_the_same_with_results_among_its_pictures(tmp_path: Path) -> None:
    """And two patterns below one folder are two sequences."""
    _touch(tmp_path, "walk_1.png", "walk_2.png", "run_1.png", "run_2.png")
    specs = [f"{tmp_path}/walk_*", f"{tmp_path}/run_*"]
    before = find_inputs(specs)
    assert [item.identity for item in before] == specs
    _touch(tmp_path, "walk_9.png", "run_9.png")
    after = find_inputs(specs, made=[f"{tmp_path}/walk_9.png", f"{tmp_path}/run_9.png"])
    assert [(a.identity, a.content) for a in after] == [(b.identity, b.content) for b in before]
    _touch(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    one, other = (
        find_inputs([f"{tmp_path}/a/1.png", f"{tmp_path}/{folder}/1.png"])[0] for folder in "bc"
    )
    assert one.content != other.content


def test_names_of_results_belong_to_an_input(tmp_path: Path, monkeypatch) -> None:
    _touch(tmp_path, "1/v.mp4", "2/v.mp4", "3/V.mp4", "w/a.png", "w/b.png")
    one, two, three = (f"{tmp_path}/{place}" for place in ("1/v.mp4", "2/v.mp4", "3/V.mp4"))
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path / "cache"))
    _touch(tmp_path, "v.csv", "w.csv", "v_2.csv")
    owners = inputs.Owners(tmp_path)
    owners.add(find_inputs([two])[0], "v", ["v.csv"])
    owners.add(find_inputs([two])[0], "v", ["v.csv"])
    (walk,) = find_inputs([f"{tmp_path}/w"])
    owners.add(walk, "w", ["w.csv", "w.mp4"])
    (kept,) = (tmp_path / "cache" / inputs.OWNERS).iterdir()
    assert len(kept.read_text().split("\n\n")) == 2  # what is known is not written again
    with open(kept, "a") as file:
        file.write('{"name": "v_2", "inp')  # torn by a kill
    again = inputs.Owners(tmp_path)
    assert again.inputs == {"v": two, "w": walk.content}
    assert again.files == {f"{tmp_path}/{name}" for name in ("v.csv", "w.csv", "w.mp4")}
    names = [item.name for item in find_inputs([one, two, three], taken=again.inputs)]
    assert names == ["v_2", "v", "V_3"]
    again.add(find_inputs([one], taken=again.inputs)[0], "v_2", ["v_2.csv"])
    assert inputs.Owners(tmp_path).inputs["v_2"] == one
    # Other pictures are another input.
    assert find_inputs([f"{tmp_path}/w"], taken=again.inputs)[0].name == "w"
    _touch(tmp_path, "w/c.png")
    assert find_inputs([f"{tmp_path}/w"], taken=again.inputs)[0].name == "w_2"


def test_what_inputs_go_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = os.getcwd()
    assert Input("a.mp4", "a", ("a.mp4",)).identity == f"{place}/a.mp4"
    assert Input(["w/a.png", "w/b.png"], "images").identity == f"{place}/w"
    for spec in ("camera:1", "rtsp://h/live"):
        assert Input(spec, "x").identity == Input(spec, "x").content == spec
    assert Input(1, "camera1").identity == "camera:1"
