"""PCK results for people: the protocol in words, groups and joints, the floor beside each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from video_pose.evaluation.pck_accumulator import MEAN_GROUPS, PCKAccumulator

_VISIBILITY = {1: "annotated joints (v >= 1)", 2: "visible joints (v = 2)"}


@dataclass(frozen=True)
class ReportFacts:
    """What the counts do not know.

    Attributes:
        dataset_name: the evaluated dataset.
        floor_source: dataset that the constant pose was taken from.
        min_visibility: smallest v that counts.
    """

    dataset_name: str
    floor_source: str
    min_visibility: int


def format_report(
    facts: ReportFacts,
    accumulators: Mapping[str, PCKAccumulator],
    metrics: Sequence[Mapping[str, float]],
    floors: Sequence[Mapping[str, float]],
) -> str:
    """Text of the whole report.

    Args:
        facts: names for the sentences.
        accumulators: protocol name -> counts, in the order of ``metrics`` and ``floors``.
        metrics: the model's ``PCKAccumulator.metrics``, one per protocol.
        floors: the constant pose's.
    """
    parts = []
    for accumulator, values, floor in zip(accumulators.values(), metrics, floors):
        parts += [
            protocol_sentence(facts, accumulator, values),
            _groups(accumulator, values, floor),
        ]
    parts += ["Joints, in percent", _joints(list(accumulators.values()), metrics, floors)]
    parts.append(
        f"floor: the median pose of {facts.floor_source}, placed in each ground-truth box. A "
        "result close to it shows that boxes are known, not poses.\n"
        "95 %: bootstrap over whole source videos. groups: mean of the groups "
        f"{', '.join(MEAN_GROUPS)} (those that the dataset has). AUC: area from 0 to the first "
        "threshold. Errors in px of the original image, over counted joints that were predicted."
    )
    return "\n\n".join(parts)


def protocol_sentence(
    facts: ReportFacts, accumulator: PCKAccumulator, values: Mapping[str, float]
) -> str:
    """What the figures mean: threshold, reference length, joints, visibility, frames, space."""
    protocol = accumulator.protocol
    unit = " px" if protocol.unit == "px" else " of the reference length"
    thresholds = ", ".join(f"{t:g}" for t in protocol.thresholds)
    exclusions = [
        f"{values['excluded_frames']:.0f} frames excluded (reference length zero or unannotated)",
        f"{values['uncounted_joints']:.0f} joints not counted (visibility)",
        f"{values['missed_frames']:.0f} frames without a prediction, counted as missed",
    ]
    if values.get("never_predicted_frames"):
        exclusions.append(f"{values['never_predicted_frames']:.0f} frames never given to the model")
    return (
        f"[{protocol.name}] {facts.dataset_name}: a joint is a hit at a distance of at most "
        f"{thresholds}{unit}; reference length: {protocol.reference}; "
        f"{_VISIBILITY.get(facts.min_visibility, facts.min_visibility)} of "
        f"{len(accumulator.joint_names)} joints; {values['frames']:.0f} labelled frames of "
        f"{len(accumulator.videos)} videos ({len(set(accumulator.sources.values()))} source "
        f"videos), {values['joints']:.0f} joints counted; pixels of the original image.\n"
        + "; ".join(exclusions)
        + "."
    )


def _groups(
    accumulator: PCKAccumulator, values: Mapping[str, float], floor: Mapping[str, float]
) -> str:
    groups = list(accumulator.groups)
    headers = ["", "overall", "95 %", "groups", *groups, "AUC", "mean px", "median px"]
    rows = []
    for index, threshold in enumerate(accumulator.protocol.thresholds):
        name = accumulator.protocol.metric(threshold)
        for label, source in ((name, values), (f"{name} floor", floor)):
            interval, tail = "", ["", "", ""]
            if index == 0:
                interval = interval_text(source[f"{name}_low"], source[f"{name}_high"])
                keys = ("AUC", "mean_error_px", "median_error_px")
                tail = [number(source[key]) for key in keys]
            cells = [number(source[f"{name}-{group}"]) for group in groups]
            mean = number(source[f"{name}_groups"])
            rows.append([label, number(source[name]), interval, mean, *cells, *tail])
    return _table(rows, headers)


def _joints(
    accumulators: Sequence[PCKAccumulator],
    metrics: Sequence[Mapping[str, float]],
    floors: Sequence[Mapping[str, float]],
) -> str:
    headers, columns = ["joint"], []
    for accumulator, values, floor in zip(accumulators, metrics, floors):
        main = accumulator.protocol.metric()
        headers += [f"{accumulator.protocol.name} {main}", "95 %", "floor"]
        keys = [f"{main}-{accumulator.joint_label(name)}" for name in accumulator.joint_names]
        columns.append([number(values[key]) for key in keys])
        columns.append([interval_text(values[f"{k}_low"], values[f"{k}_high"]) for k in keys])
        columns.append([number(floor[key]) for key in keys])
    names = accumulators[0].joint_names if accumulators else []
    return _table([list(row) for row in zip(names, *columns)], headers)


def number(value: float) -> str:
    """One decimal; "nan" where nothing was counted."""
    return "nan" if math.isnan(value) else f"{value:.1f}"


def interval_text(low: float, high: float) -> str:
    """Both bounds with one decimal."""
    return f"{number(low)} - {number(high)}"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    # Numbers are text already: tabulate would drop trailing zeros of its own.
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
