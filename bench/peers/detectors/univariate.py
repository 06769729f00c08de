"""Methods for one channel. Each takes `x` (n values) and how many rows are granted for learning, and gives n scores."""

import math

import numpy as np

from detectors.profile import nearest_others, windows, z_normalised

KNN_CAD_DIMENSIONS, KNN_CAD_NEIGHBOURS = 19, 27
KNN_CAD_ALARM, KNN_CAD_HELD = 0.9965, 0.5
KNN_CAD_ROWS = 750  # NAB's limit of the probationary period, kept where more rows are granted.
GAUSSIAN_ROWS, GAUSSIAN_STEP, GAUSSIAN_LEAST_SD = 6400, 100, 1e-6
PERIODS, NO_PERIOD = (3, 300), 125


def period(x):
    """The lag of 3 to 303 rows at which the autocorrelation has its highest peak, else 125 (TSB-AD's convention)."""
    x = x[:20000] - np.mean(x[:20000])
    if not x.any():
        return NO_PERIOD
    spectrum = np.fft.rfft(x, 1 << (2 * len(x) - 1).bit_length())
    correlation = np.fft.irfft(spectrum * spectrum.conj())[3 : min(401, len(x))]
    inner = correlation[1:-1]
    peaks = np.flatnonzero((inner > correlation[:-2]) & (inner > correlation[2:])) + 1
    if len(peaks) == 0:
        return NO_PERIOD
    best = int(peaks[np.argmax(correlation[peaks])])
    return best + 3 if PERIODS[0] <= best <= PERIODS[1] else NO_PERIOD


def granted_period(x, granted):
    """The period of the granted rows, no more than a third of them, so that they hold enough windows to learn from."""
    return max(2, min(period(x[:granted]), granted // 3))


def unit_range(scores):
    """TSB-AD's last step: all scores of a series between 0 and 1, which takes the whole series."""
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.zeros_like(scores)


def knn_cad(x, granted, hold=True):
    """KNN-CAD: the conformal rank of a shingle's distance to its 27 neighbours (Burnaev & Ishimtsev 2016, 1608.04585).

    The lazy variant as in NAB: shingles of 19 rows, squared Mahalanobis distance by the second moments of the training
    shingles, which are those of the probationary period and from twice that on lag as far behind. A score is the part
    of the last non-conformity measures that are smaller. With `hold` an alarm is followed by 0.5s.
    """
    probation = min(granted, KNN_CAD_ROWS)
    shingles = windows(x, KNN_CAD_DIMENSIONS)
    size = probation - KNN_CAD_DIMENSIONS  # Of the training shingles, and of the measures ranked against.
    metric = np.eye(KNN_CAD_DIMENSIONS)
    measures, scores = np.zeros(size + len(x) - probation + 1), np.zeros(len(x))
    for row in range(probation - 1, len(x)):
        seen = row + 1
        start = max(0, seen - 2 * probation)
        training = shingles[start : start + size]
        if seen % probation in (0, probation // 2):
            metric = inverse_moments(training, metric)
        at = seen - probation
        if at == 0:
            measures[:size] = [
                measure(training, shingle, metric, KNN_CAD_NEIGHBOURS + 1) for shingle in training
            ]
        new = measure(training, shingles[row - KNN_CAD_DIMENSIONS + 1], metric, KNN_CAD_NEIGHBOURS)
        scores[row] = np.mean(measures[at : at + size] < new)
        measures[at + size] = new
    return held(scores, probation // 5) if hold else scores


def inverse_moments(training, before):
    """The inverse of the (uncentred) second moments of shingles, k x d; `before` where there is none."""
    try:
        return np.linalg.inv(training.T @ training)
    except np.linalg.LinAlgError:
        return before


def measure(training, shingle, metric, neighbours):
    """The sum of the squared distances to the nearest of the training shingles (k x d)."""
    apart = training - shingle
    squares = ((apart @ metric) * apart).sum(axis=1)
    return np.partition(squares, neighbours)[:neighbours].sum()


def held(scores, rows):
    """After a score that is an alarm, the next `rows` are 0.5 whatever they were."""
    out, left = scores.copy(), 0
    for row, score in enumerate(scores):
        if left > 0:
            out[row], left = KNN_CAD_HELD, left - 1
        elif score >= KNN_CAD_ALARM:
            left = rows
    return out


def left_profile(x, granted, length=64, normalise=True):
    """The left matrix profile (Yeh et al. 2016): the distance to the nearest window that ends m/2 rows earlier or more.

    Without z-normalisation it is over the series' running deviation, for one threshold has to fit all series.
    `length` None is the period of the granted rows.
    """
    length = length or granted_period(x, granted)
    vectors = z_normalised(windows(x, length)) if normalise else windows(x, length)
    profile = np.r_[np.zeros(length - 1), nearest_others(vectors, max(1, length // 2), left=True)]
    return profile if normalise else profile / running(x, seen=1)[1]


def full_profile(x, _granted):
    """The matrix profile as in TSB-AD: z-normalised windows of the period, neighbours before and after; looks ahead.

    Windows up to m/4 rows apart are no neighbours; a window's score stands at its middle, the ends have the least.
    """
    length = period(x)
    profile = nearest_others(z_normalised(windows(x, length)), math.ceil(length / 4) + 1, left=False)
    scores = np.full(len(x), profile.min())
    scores[length // 2 : length // 2 + len(profile)] = profile
    return unit_range(scores)


def sub_pca(x, _granted):
    """Sub-PCA as in TSB-AD: fitted on all windows of the series' period, scores at their middles; looks ahead."""
    length = period(x)
    vectors = windows(x, length)
    scores = eigen_distances(vectors, vectors)
    return unit_range(np.pad(scores, (math.ceil((length - 1) / 2), (length - 1) // 2), mode="edge"))


def sub_pca_causal(x, granted):
    """Sub-PCA fitted on the granted rows' windows alone, in units of their 0.99 quantile; scores stand at last rows."""
    length = granted_period(x, granted)
    vectors = windows(x, length)
    fitted = granted - length + 1
    scores = eigen_distances(vectors[:fitted], vectors)
    return np.r_[np.zeros(length - 1), scores / (np.quantile(scores[:fitted], 0.99) or 1.0)]


def eigen_distances(training, vectors):
    """Sum of the distances to all unit eigenvectors, each over its part of the variance (Shyu et al. 2003, as in pyod).

    `training` k x d, `vectors` n x d. The eigenvectors' largest components are positive: the distances depend on signs.
    """
    scale = training.std(axis=0)
    scale[scale == 0] = 1
    mean = training.mean(axis=0)
    standard = (vectors - mean) / scale
    variances, axes = np.linalg.eigh(np.cov((training - mean) / scale, rowvar=False))
    kept = min(training.shape)
    variances, axes = variances[::-1][:kept], axes[:, ::-1][:, :kept]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(kept)])
    if variances[0] <= 0:
        return np.zeros(len(vectors))
    parts = np.maximum(variances / np.maximum(variances, 0).sum(), np.finfo(float).eps)
    squares = (standard**2).sum(axis=1)[:, None] + 1 - 2 * standard @ axes
    return (np.sqrt(np.maximum(squares, 0)) / parts).sum(axis=1)


def moments(x, starts, ends):
    """Mean and standard deviation of x[start:end] for each pair, n each; a deviation within rounding of 0 is 0."""
    centre = x[0]
    sums = np.r_[0, np.cumsum(x - centre)]
    squares = np.r_[0, np.cumsum((x - centre) ** 2)]
    rows = np.maximum(ends - starts, 1)
    mean = (sums[ends] - sums[starts]) / rows
    mean_square = (squares[ends] - squares[starts]) / rows
    variance = mean_square - mean**2
    return mean + centre, np.sqrt(np.where(variance > 1e-12 * mean_square, variance, 0))


def windowed_gaussian(x, _granted):
    """NAB's windowed Gaussian: 1 - the tail probability by the 6,400 rows before, which move on in steps of 100."""
    rows = np.arange(len(x))
    starts = np.maximum(rows - GAUSSIAN_ROWS, 0) // GAUSSIAN_STEP * GAUSSIAN_STEP
    mean, sd = moments(x, starts, np.minimum(rows, starts + GAUSSIAN_ROWS))
    far = np.abs(x - mean) / np.where(sd > 0, sd, GAUSSIAN_LEAST_SD)
    scores = np.array([1 - 0.5 * math.erfc(z / math.sqrt(2)) for z in far])
    scores[0] = 0
    return scores


def running(x, seen):
    """Mean and deviation (n each, never 0) of all rows before each row, and with `seen` = 1 of the row itself too."""
    rows = np.arange(len(x))
    mean, sd = moments(x, np.zeros_like(rows), rows + seen)
    return mean, np.maximum(sd, 1e-9 * (1 + np.abs(mean)))


def running_z(x, _granted):
    """How many standard deviations of all rows before a value is off their mean; the floor."""
    mean, sd = running(x, seen=0)
    return np.where(np.arange(len(x)) >= 2, np.abs(x - mean) / sd, 0)
