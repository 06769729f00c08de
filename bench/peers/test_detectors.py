"""Checks of the rewritten detectors on made-up series: `python -m unittest test_detectors` in this folder."""

import unittest

import numpy as np

from detectors.methods import METHODS
from detectors.profile import nearest_others, windows, z_normalised
from detectors.streams import carry
from detectors.univariate import full_profile, held, knn_cad, left_profile, period

GRANTED = 240


def wave(rows, seed=0):
    """A noisy wave of period 50."""
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(rows) * 2 * np.pi / 50) + 0.05 * rng.normal(size=rows)


def knn_cad_by_the_book(x, probation, dimensions=19, neighbours=27):
    """KNN-CAD with its queues, a record at a time."""
    buffer, training, calibration, scores, out = [], [], [], [], []
    metric = np.eye(dimensions)

    def non_conformity(item, count):
        squares = sorted((a - item) @ metric @ (a - item) for a in training)
        return sum(squares[:count])

    for record, value in enumerate(x, 1):
        buffer.append(value)
        if len(buffer) < dimensions:
            out.append(0)
            continue
        item = np.array(buffer[-dimensions:])
        if record < probation:
            training.append(item)
            out.append(0)
            continue
        if record % probation in (0, probation // 2):
            metric = np.linalg.inv(np.array(training).T @ np.array(training))
        if not scores:
            scores = [non_conformity(each, neighbours + 1) for each in training]
        new = non_conformity(item, neighbours)
        out.append(sum(score < new for score in scores) / len(scores))
        if record >= 2 * probation:
            training = training[1:] + [calibration.pop(0)]
        calibration.append(item)
        scores = scores[1:] + [new]
    return np.array(out)


class Profiles(unittest.TestCase):
    def test_left_profile_finds_a_planted_discord(self):
        x = wave(2000)
        x[1500:1520] = x[1500:1520][::-1] + 0.8
        for options in ({}, {"normalise": False}, {"length": None}, {"length": None, "normalise": False}):
            peak = GRANTED + int(np.argmax(left_profile(x, GRANTED, **options)[GRANTED:]))
            self.assertTrue(1500 <= peak <= 1520 + 64, f"{options}: {peak}")

    def test_full_profile_has_the_discord_at_its_middle(self):
        x = wave(2000)
        x[1500:1520] = 0
        self.assertLess(abs(int(np.argmax(full_profile(x, GRANTED))) - 1510), 25)

    def test_neighbours_are_the_ones_of_a_plain_search(self):
        vectors = z_normalised(windows(wave(1300), 20))
        distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
        places = np.arange(len(vectors))
        behind = places[:, None] - places[None]
        for left, memory in ((True, None), (False, None), (False, 300)):
            far = (behind if left else np.abs(behind)) >= 10
            far &= places[None] < (memory or len(vectors))
            expected = np.where(far, distances, np.inf).min(axis=1)
            found = nearest_others(vectors, 10, left, memory)
            np.testing.assert_allclose(found, np.where(np.isfinite(expected), expected, 0), atol=1e-6)

    def test_period(self):
        self.assertEqual(period(wave(2000)), 50)
        self.assertEqual(period(np.ones(500)), 125)


class Methods(unittest.TestCase):
    def test_knn_cad_is_the_one_with_queues(self):
        x = wave(500)
        x[400] += 2
        np.testing.assert_allclose(knn_cad(x, 100, hold=False), knn_cad_by_the_book(x, 100))

    def test_alarms_are_held(self):
        self.assertEqual(held(np.array([0.1, 1, 0.2, 1, 0.3]), 2).tolist(), [0.1, 1, 0.5, 0.5, 0.3])

    def test_causal_methods_do_not_look_ahead(self):
        series = wave(1500)
        several = np.stack([series, wave(1500, 1), np.cumsum(wave(1500, 2))], axis=1)
        for name, method in METHODS.items():
            values = several if method.takes == "several" else several[:, :1]
            values = values[:, 0] if method.takes == "one" else values
            whole = method.call(values, GRANTED)
            part = method.call(values[:1100], GRANTED)
            self.assertEqual(whole.shape, (1500,), name)
            self.assertTrue(np.isfinite(whole).all(), name)
            same = np.allclose(whole[:1100], part, atol=1e-6)
            self.assertEqual(same, method.causal, name)

    def test_constant_series_have_scores(self):
        for name, method in METHODS.items():
            if method.takes != "several":
                values = np.ones(800) if method.takes == "one" else np.ones((800, 1))
                self.assertTrue(np.isfinite(method.call(values, GRANTED)).all(), name)

    def test_gaps_are_carried_forward(self):
        gaps = np.array([[np.nan, np.nan], [1, np.nan], [np.nan, np.nan], [2, np.nan]])
        self.assertEqual(carry(gaps).tolist(), [[1, 0], [1, 0], [1, 0], [2, 0]])


if __name__ == "__main__":
    unittest.main()
