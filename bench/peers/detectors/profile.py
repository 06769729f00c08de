"""Nearest neighbours among vectors in order of time: the matrix profile's windows, and rows of several channels."""

import numpy as np

BLOCK = 512  # Rows whose distances are computed at once.


def windows(x, length):
    """Every window of `length` values of a series: n - length + 1 x length, without a copy."""
    return np.lib.stride_tricks.sliding_window_view(x, length)


def z_normalised(vectors):
    """Each row (n x d) with mean 0 and deviation 1; a constant one is all 0, and so sqrt(d) off any that is not."""
    mean = vectors.mean(axis=1, keepdims=True)
    sd = vectors.std(axis=1, keepdims=True)
    constant = sd <= 1e-10 * (1 + np.abs(mean))
    return np.where(constant, 0, (vectors - mean) / np.where(constant, 1, sd))


def nearest_others(vectors, apart, left, memory=None):
    """The distance of each of n vectors (n x d) to the nearest at least `apart` places off, and earlier if `left`.

    `memory` takes only the first so many for neighbours. 0 where there is no neighbour. The neighbour is found by
    products (which round) and its distance then measured.
    """
    vectors = vectors - vectors.mean(axis=0)
    squares = (vectors**2).sum(axis=1)
    out = np.zeros(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(vectors)))
        others = np.arange(min(memory or len(vectors), max(0, rows[-1] + 1 - apart) if left else len(vectors)))
        if len(others) == 0:
            continue
        distances = squares[others] - 2 * vectors[rows] @ vectors[others].T
        close = others[max(0, start - apart) :]  # The only ones that some row of the block may be too near to.
        ahead = rows[:, None] - close[None]
        distances[:, close] = np.where((ahead if left else np.abs(ahead)) < apart, np.inf, distances[:, close])
        nearest = distances.argmin(axis=1)
        found = np.isfinite(distances[np.arange(len(rows)), nearest])
        exact = np.sqrt(((vectors[rows] - vectors[nearest]) ** 2).sum(axis=1))
        out[rows] = np.where(found, exact, 0)
    return out
