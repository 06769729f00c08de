"""Methods for any number of channels. Each takes n rows x c channels and the rows granted for learning; n scores."""

import numpy as np

from detectors.profile import nearest_others, windows
from detectors.univariate import running_z

TREES, DEPTH, REFERENCE_ROWS = 25, 15, 250
SIZE_LIMIT = 0.1 * REFERENCE_ROWS
EXPLAINED, MEDIAN_ROWS, LIMIT = 0.85, 5, 0.99
NOT_NEIGHBOURS = 30  # Granted rows closer than this do not vouch for each other.


def half_space_trees(values, granted, seed=0):
    """Streaming half-space trees (Tan, Ting & Liu 2011): 25 trees of depth 15, masses of the 250 rows before.

    Values are scaled to 0 to 1 by the granted rows' range. The score is log2(largest mass / mass) of the trees' summed
    masses: the paper's order, in a unit that a threshold can be carried in. The first 250 rows have none.
    """
    low, high = values[:granted].min(axis=0), values[:granted].max(axis=0)
    unit = (values - low) / np.where(high > low, high - low, 1)
    splits = grow(np.random.default_rng(seed), values.shape[1])
    nodes_per_tree = 2 ** (DEPTH + 1) - 1
    offsets = np.arange(TREES)[None, :, None] * nodes_per_tree
    largest = TREES * REFERENCE_ROWS * 2.0**DEPTH
    scores, masses = np.zeros(len(values)), None
    for start in range(0, len(values), REFERENCE_ROWS):
        places = paths(unit[start : start + REFERENCE_ROWS], *splits) + offsets
        if masses is not None:
            scores[start : start + len(places)] = np.log2((largest + 1) / (mass(masses[places]) + 1))
        masses = np.bincount(places.ravel(), minlength=TREES * nodes_per_tree)
    return scores


def grow(rng, channels):
    """Every tree's channel and value to split at, trees x (2^depth - 1) as a heap: a random work space halved."""
    centre = rng.random((TREES, 1, channels))
    reach = 2 * np.maximum(centre, 1 - centre)
    low, high = centre - reach, centre + reach
    split_channels, split_values = [], []
    for level in range(DEPTH):
        chosen = rng.integers(channels, size=(TREES, 2**level, 1))
        middle = np.take_along_axis((low + high) / 2, chosen, axis=2)
        split_channels.append(chosen[..., 0])
        split_values.append(middle[..., 0])
        is_split = np.arange(channels) == chosen
        low = np.stack([low, np.where(is_split, middle, low)], axis=2).reshape(TREES, -1, channels)
        high = np.stack([np.where(is_split, middle, high), high], axis=2).reshape(TREES, -1, channels)
    return np.concatenate(split_channels, axis=1), np.concatenate(split_values, axis=1)


def paths(rows, split_channels, split_values):
    """The nodes that rows (n x c) pass from each tree's root to its leaf: n x trees x (depth + 1)."""
    trees = np.arange(TREES)
    nodes = np.zeros((len(rows), TREES, DEPTH + 1), int)
    for level in range(DEPTH):
        node = nodes[:, :, level]
        value = np.take_along_axis(rows, split_channels[trees, node], axis=1)
        nodes[:, :, level + 1] = 2 * node + 1 + (value >= split_values[trees, node])
    return nodes


def mass(counts):
    """Sum over trees of r x 2^depth at the first node of a path (n x trees x depth + 1) with no more than the limit."""
    small = counts <= SIZE_LIMIT
    small[:, :, -1] = True
    level = small.argmax(axis=2)
    at = np.take_along_axis(counts, level[..., None], axis=2)[..., 0]
    return (at * 2.0**level).sum(axis=1)


def standard(values, granted):
    """Each channel less the granted rows' mean, over their deviation."""
    mean, sd = values[:granted].mean(axis=0), values[:granted].std(axis=0)
    return (values - mean) / np.maximum(sd, 1e-3 * np.abs(mean) + 1e-6)


def t2_q(values, granted):
    """Hotelling's T2 and Q of PCA (Mujica et al. 2010, as in SKAB): components for 85% of the granted rows' variance.

    Each statistic is a median over 5 rows and counts in units of its 0.99 quantile over the granted rows; the larger is
    the score. Channels that are constant in the granted rows are left out.
    """
    rows = standard(values[:, values[:granted].std(axis=0) > 0], granted)
    variances, axes = np.linalg.eigh(np.cov(rows[:granted], rowvar=False))
    variances, axes = variances[::-1], axes[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(variances) / variances.sum(), EXPLAINED)) + 1
    projected = rows @ axes[:, :kept]
    t2 = (projected**2 / variances[:kept]).sum(axis=1)
    q = np.maximum((rows**2).sum(axis=1) - (projected**2).sum(axis=1), 0)
    smooth = [np.median(windows(np.r_[np.repeat(s[0], MEDIAN_ROWS - 1), s], MEDIAN_ROWS), axis=1) for s in (t2, q)]
    return np.maximum(*[s / max(np.quantile(s[:granted], LIMIT), 1e-12) for s in smooth])


def frozen_nearest(values, granted):
    """The distance of a row to the nearest of the granted rows, channels standardised by those; it learns no more."""
    return nearest_others(standard(values, granted), NOT_NEIGHBOURS, left=False, memory=granted)


def largest_running_z(values, granted):
    """The largest running z-score of any channel."""
    return np.max([running_z(channel, granted) for channel in values.T], axis=0)
