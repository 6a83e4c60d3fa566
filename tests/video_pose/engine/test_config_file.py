"""Configuration files of strangers: one line with the file's name, and nothing hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from video_pose.engine.defaults import find_config, get_pose_cfg, merge_config_file


def write(folder: Path, content: str | bytes, name: str = "c.yaml") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_bases_are_merged_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, "SEED: 1\nOUTPUT_DIR: a\n", "base.yaml")
    path = write(tmp_path, "_BASE_: base.yaml\nSEED: 2\n")
    cfg = get_pose_cfg()
    merge_config_file(cfg, path)
    assert (cfg.SEED, cfg.OUTPUT_DIR) == (2, "a")


def alias_bomb() -> str:
    """700 bytes for 10 to the power of 9 values."""
    lines = ["MODEL:", "  POSE:", "    JOINTS:", "      - &a [a,a,a,a,a,a,a,a,a,a]"]
    for name, inner in zip("bcdefghij", "abcdefghi"):
        lines.append(f"      - &{name} [{','.join([f'*{inner}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MODEL: \xe9\n", "byte 7 is no text in UTF-8"),
        ("_BASE_: c.yaml\n", "its _BASE_ leads back to itself"),
        ("_BASE_: 3\n", "_BASE_ must be a file's name, found 3"),
        ("_BASE_: https://x.org/a.yaml\n", "is on the network: download it first"),
        ("A: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("A: &a [*a]\n", "stand for more than"),
        (alias_bomb(), "aliases stand for more than 100000 values"),
        ("", "expected a YAML mapping of keys, found NoneType"),
        ("- 1\n", "expected a YAML mapping of keys, found list"),
        ("A: [\n", "no plain YAML"),
        ("A: 2024-13-45\n", r"c\.yaml: month must be in"),
        ("SOLVER: 3\n", "c.yaml"),
        ("SOLVER:\n  MAX_ITER: many\n", "c.yaml: Type mismatch .*int.*str.*MAX_ITER"),
        ("OUTPUT_DIR: !!python/object/apply:os.mkdir [x]\n", "no plain YAML: .*os.mkdir"),
    ],
)
def test_a_damaged_file_is_one_line_with_its_name(tmp_path, content, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        merge_config_file(get_pose_cfg(), path)
    assert path in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_key_is_named_with_one_like_it(tmp_path: Path) -> None:
    path = write(tmp_path, "SOLVER:\n  MAX_ITERS: 3\n")
    with pytest.raises(KeyError, match=r"c\.yaml: .*MAX_ITERS; did you mean SOLVER.MAX_ITER"):
        merge_config_file(get_pose_cfg(), path)


def test_a_missing_file_is_named_with_who_names_it(tmp_path: Path) -> None:
    path = write(tmp_path, "_BASE_: gone.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml, named as _BASE_ in .*c\.yaml"):
        merge_config_file(get_pose_cfg(), path)
    with pytest.raises(FileNotFoundError, match="config not found: nowhere.yaml"):
        find_config("nowhere.yaml")


def test_a_name_of_detectron2s_zoo_is_found() -> None:
    path = find_config("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    cfg = get_pose_cfg()
    merge_config_file(cfg, path)
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"


@pytest.mark.parametrize("name", ["unipose_lstm_R50_res4", "unipose_lstm_R50_res4/config.yaml"])
def test_configs_of_packaged_models_go_by_name(name: str) -> None:
    found = Path(find_config(f"video-pose://{name}"))
    assert found.parts[-3:] == ("pretrained", "unipose_lstm_R50_res4", "config.yaml")
    with pytest.raises(FileNotFoundError, match="the package's models are .*unipose_lstm_R50_res4"):
        find_config("video-pose://unipose_lstm_R51")
