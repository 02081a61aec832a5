"""Server metrics of the Numenta Anomaly Benchmark: series of five-minute samples, cut into windows.

The 17 series of ``realAWSCloudwatch`` (Ahmad et al., Neurocomputing 2017; MIT licence), from
github.com/numenta/NAB. Labels of anomalies are for evaluation only.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from sdlgm.data.download import fetch, read_known
from sdlgm.data.rows import Dataset, Rows
from sdlgm.errors import DataError

__all__ = ["TELEMETRY", "Series", "load_telemetry", "sliding_windows", "telemetry_dataset"]

TRAIN_FRACTION = 0.6
"""Share of each series, from its beginning, that is used for training."""
LENGTH = 64
"""Samples in a window: five hours and twenty minutes."""
STRIDE = 4
"""Samples between the starts of two training windows of the built-in set."""
_URL = "https://raw.githubusercontent.com/numenta/NAB/ea702d75cc2258d9d7dd35ca8e5e2539d71f3140/"
_FOLDER = "realAWSCloudwatch"
_LABELS = "combined_windows"
TELEMETRY: Mapping[str, str] = MappingProxyType(
    {
        "ec2_cpu_utilization_24ae8d": (
            "ab446fbd8b9f37507eb2fdb06315826d8daeef02e241133ce06e0ee571ba53d9"
        ),
        "ec2_cpu_utilization_53ea38": (
            "8942e498de7b40f1b4a6d802755592c09b8fb73ce8f658763a09cb9ea1ea94ac"
        ),
        "ec2_cpu_utilization_5f5533": (
            "01613e6f632d067f11a5dfd40a188b0789752b388d9bc77a398bd06333878a76"
        ),
        "ec2_cpu_utilization_77c1ca": (
            "90ceabd570b449241ee24ff8a116a793979b7671ce4490707311bfea0e0aae1f"
        ),
        "ec2_cpu_utilization_825cc2": (
            "d768419037c9db269343822957314f57ee21a7d9a4d41df2add0d1ba45ba84de"
        ),
        "ec2_cpu_utilization_ac20cd": (
            "749a15c2e1a4543c21fee9cbf3338cd8a7ed5f5f8a1308b9b099b06c2c66e66b"
        ),
        "ec2_cpu_utilization_c6585a": (
            "d936cea74682ed43ac96b778352d7de294c0b0c168f4a7e6817162346cdb28c1"
        ),
        "ec2_cpu_utilization_fe7f93": (
            "f3433f8171f4dcea86c0c7af9996d0f166f812fa0f4567f1d5cd85d2d2cd69b4"
        ),
        "ec2_disk_write_bytes_1ef3de": (
            "ce3d6c6a652ed7c31a6dd3727a36e128fcac6fb2381c63267ad0fbc02eccd9df"
        ),
        "ec2_disk_write_bytes_c0d644": (
            "a0e734a66098bb81833835f0839dadafbc8ae829c51494670ee8849e46eb5b63"
        ),
        "ec2_network_in_257a54": (
            "39104b08f2e0a673b5137eb7681897fcadf0955fedf565740a6a94edc63a81a4"
        ),
        "ec2_network_in_5abac7": (
            "c27ef93f582af63bf42e80d804764cbe64ae987620f3cfab5477d6ebb3c6157e"
        ),
        "elb_request_count_8c0756": (
            "74c26574a01ca9fb89dddb5021e2e13c3a93eb25dc640438a9acb1ceb00f1021"
        ),
        "grok_asg_anomaly": ("86a0abe9d58e376858d2fd4f4a438f1997e24c64a09e5af03accd4e1b372ac47"),
        "iio_us-east-1_i-a2eb1cd9_NetworkIn": (
            "f115fbe6542159eed5612445bfa620708a28ab6b41349d1432bb15c3a3b8414d"
        ),
        "rds_cpu_utilization_cc0c53": (
            "d5df979ef85928769a016cd0f935919d8c2a113926e21e1eb3a5001d688760e2"
        ),
        "rds_cpu_utilization_e47b3b": (
            "6b712b922ab3b3404c5a629d64a570c390c99471ee8b9b0ff7665f553fda92c1"
        ),
    }
)
"""SHA-256 of the CSV file of each series."""
_LABELS_SHA256 = "1e1fbc4601321aad8d0f8b3784c8134299379f68f6c1f7777565f8ffd57ab6b1"


@dataclass(frozen=True)
class Series:
    """One metric of one server, with samples in the order of the file."""

    name: str
    times: NDArray[np.datetime64]
    """Time of each sample (seconds), shape ``(n,)``. Samples are five minutes apart, except for
    about twenty gaps of up to 64 minutes and a dozen repeated times in two series."""
    values: NDArray[np.float64]
    """Value of each sample, shape ``(n,)``, in percent, bytes or requests (see the name)."""
    anomalous: NDArray[np.bool_]
    """Whether each sample lies in a labelled anomaly, shape ``(n,)``. For evaluation only."""

    @property
    def cut(self) -> int:
        """Number of training samples; the others are test samples."""
        return int(TRAIN_FRACTION * len(self.values))

    @property
    def mean(self) -> float:
        """Mean of the training part."""
        return float(self.values[: self.cut].mean())

    @property
    def scale(self) -> float:
        """Standard deviation of the training part (1 if it is constant)."""
        return float(self.values[: self.cut].std()) or 1.0

    @property
    def standard(self) -> NDArray[np.float64]:
        """All values, standardised by the mean and scale of the training part."""
        return (self.values - self.mean) / self.scale


def load_telemetry() -> tuple[Series, ...]:
    """Load the 17 series from ``$SDLGM_DATA/nab/``; download those that are not there.

    Raises
    ------
    DataError
        If files are damaged, or missing and cannot be downloaded (the message says how to provide
        them).
    """
    content = _file(f"{_LABELS}.json", "labels/", _LABELS_SHA256)
    labels = json.loads(content)
    return tuple(
        parse(
            name,
            _file(f"{name}.csv", f"data/{_FOLDER}/", sha256).decode(),
            labels[f"{_FOLDER}/{name}.csv"],
        )
        for name, sha256 in TELEMETRY.items()
    )


def _file(file: str, where: str, sha256: str) -> bytes:
    return fetch("nab", file, _URL + where, sha256, functools.partial(read_known, sha256))


def parse(name: str, text: str, labels: list[list[str]]) -> Series:
    """Parse a series from the text of a CSV file and its labelled windows (ends included).

    Raises
    ------
    DataError
        If there are no lines, or one is not a time and a finite number.
    """
    lines = list(csv.reader(text.splitlines()))
    try:
        times = np.array([_seconds(time) for time, _ in lines[1:]], "datetime64[s]")
        values = np.array([float(value) for _, value in lines[1:]])
        ends = np.array([[_seconds(time) for time in window] for window in labels])
    except ValueError as error:
        raise DataError(f"{name} has a line that is not a time and a number: {error}.") from None
    if not len(values) or not np.isfinite(values).all():
        raise DataError(f"{name} is empty or has missing values.")
    starts, stops = ends.astype("datetime64[s]").reshape(-1, 2).T
    inside = (times[:, None] >= starts) & (times[:, None] <= stops)
    return Series(name, times, values, np.asarray(inside.any(1)))


def _seconds(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def sliding_windows(
    values: NDArray[np.float64], stride: int, length: int = LENGTH
) -> NDArray[np.float64]:
    """Cut values into windows of ``length`` that start every ``stride``: shape ``(m, length)``.

    The last axis of ``values`` is time. Values after the last whole window are dropped.
    """
    found = np.lib.stride_tricks.sliding_window_view(values, length, axis=-1)
    return np.ascontiguousarray(found[..., ::stride, :])


def telemetry_dataset(train_stride: int = STRIDE, test_stride: int = LENGTH) -> Dataset:
    """Return windows of all metrics in one set, each standardised by its metric's training part.

    The first 60 % of each series are for training, the rest for testing; no window crosses the
    boundary. By default, training windows overlap and test windows do not.
    """
    train, test = [], []
    for series in load_telemetry():
        train.append(sliding_windows(series.standard[: series.cut], train_stride))
        test.append(sliding_windows(series.standard[series.cut :], test_stride))
    rows = [Rows(torch.from_numpy(np.concatenate(part)).float()) for part in (train, test)]
    return Dataset("nab", rows[0], rows[1])
