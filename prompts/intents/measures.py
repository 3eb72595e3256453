"""How good chances are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 10

Numbers = npt.NDArray[np.float64]


def auroc(of_known: Numbers, of_strange: Numbers) -> float:
    """How likely a known text is surer than a strange one (ties count half): the area under the ROC curve."""
    if not len(of_known) or not len(of_strange):
        return float("nan")
    ordered = np.sort(of_strange)
    below = np.searchsorted(ordered, of_known, side="left")
    not_above = np.searchsorted(ordered, of_known, side="right")
    return float((below + not_above).mean() / 2 / len(of_strange))


def calibration_error(confidence: Numbers, is_right: npt.NDArray[np.bool_]) -> float:
    """The expected calibration error over ten bins of equal width (Guo et al. 2017): 0 is perfect."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(confidence[bins == at].mean() - is_right[bins == at].mean()) * (bins == at).mean()
        for at in range(BINS)
        if (bins == at).any()
    ]
    return float(sum(gaps))
