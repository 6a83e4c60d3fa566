"""Write pictures, videos and .mat files whose bytes depend on their content alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from scipy.io import savemat

# A v5 file starts with 116 bytes of text, in which scipy writes the date.
_MAT_HEADER = b"MATLAB 5.0 MAT-file, synthetic video pose".ljust(116)


def write_mat(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a compressed v5 .mat file without a date."""
    buffer = io.BytesIO()
    savemat(buffer, dict(fields), do_compression=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_MAT_HEADER + buffer.getvalue()[len(_MAT_HEADER) :])


def write_image(path: Path, picture: np.ndarray) -> None:
    """Write a BGR uint8 (H, W, 3) picture as .png or .jpg.

    Raises:
        OSError: if the picture cannot be encoded or written.
    """
    options = {".png": [cv2.IMWRITE_PNG_COMPRESSION, 1], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95]}
    done, data = cv2.imencode(path.suffix, picture, options[path.suffix])
    if not done:
        raise OSError(f"{path}: OpenCV could not encode a picture of shape {picture.shape}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def write_video(path: Path, frames: np.ndarray, fps: int = 25) -> None:
    """Write BGR uint8 (N, H, W, 3) frames as MPEG-4 in the container of the suffix (.avi, .mp4).

    A key frame every twelve frames, as in the real files, so that seeking has something to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # One thread and no version strings: the same frames give the same bytes.
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        options = {"flags": "+bitexact", "qscale": "2", "threads": "1"}
        stream = container.add_stream("mpeg4", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 12
        stream.codec_context.qmin, stream.codec_context.qmax = 2, 3
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
