"""The methods by name, with the number of channels that each takes."""

import dataclasses
import typing
from functools import partial

from detectors.multivariate import frozen_nearest, half_space_trees, largest_running_z, t2_q
from detectors.univariate import full_profile, knn_cad, left_profile, sub_pca, sub_pca_causal, windowed_gaussian


@dataclasses.dataclass
class Method:
    """`call(values, granted)` gives scores; values are n where it takes one channel alone, else rows x channels."""

    takes: str  # "one" channel, "several", or "any" number.
    call: typing.Callable
    causal: bool = True
    has_own_refractory: bool = False

    def scores(self, stream):
        """The stream's scores, a row each; none if the method is not for so many channels."""
        channels = "one" if stream.values.shape[1] == 1 else "several"
        if self.takes not in (channels, "any"):
            return None
        return self.call(stream.values[:, 0] if self.takes == "one" else stream.values, stream.granted)


METHODS = {
    "knn-cad": Method("one", knn_cad, has_own_refractory=True),
    "knn-cad-without-hold": Method("one", partial(knn_cad, hold=False)),
    "left-profile": Method("one", left_profile),
    "left-profile-raw": Method("one", partial(left_profile, normalise=False)),
    "left-profile-period": Method("one", partial(left_profile, length=None)),
    "left-profile-raw-period": Method("one", partial(left_profile, length=None, normalise=False)),
    "half-space-trees": Method("any", half_space_trees),
    "windowed-gaussian": Method("one", windowed_gaussian),
    "running-z": Method("any", largest_running_z),
    "sub-pca-granted": Method("one", sub_pca_causal),
    "t2-q": Method("several", t2_q),
    "frozen-nearest": Method("several", frozen_nearest),
    "matrix-profile": Method("one", full_profile, causal=False),
    "sub-pca": Method("one", sub_pca, causal=False),
}
