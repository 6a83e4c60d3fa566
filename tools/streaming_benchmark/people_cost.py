"""What further people cost: they share one batch."""

from __future__ import annotations

import numpy as np
from benchmarking.timing import alternate, timed

from streaming_benchmark.figure import Figure
from streaming_benchmark.subject import Crowd, Subject, endless, moving_pictures

_FRAMES = 10


def measure_people(subject: Subject, people: int, rounds: int) -> list[Figure]:
    """Time per frame of ``people`` people by that of one, crops and decoding included."""
    pictures = moving_pictures(_FRAMES)
    passes = {}
    for count in (1, people):
        predictor = subject.predictor(Crowd(count))

        def stream(predictor=predictor) -> None:
            for _ in predictor(endless(pictures, _FRAMES)):
                pass

        passes[str(count)] = timed(stream, subject.backend.device)
    seconds = alternate(passes, 0.0, rounds)
    one, many = (1000 * float(np.median(seconds[name])) / _FRAMES for name in passes)
    how = f"1 person {one:.1f} ms, {people} people {many:.1f} ms a frame, medians of {rounds}"
    details = {"ms_one": one, "ms_many": many, "people": people, "seconds": seconds}
    name = f"{people} people by one person"
    return [Figure(name, many / one, "", float(people), how, details)]
