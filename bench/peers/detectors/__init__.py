"""Published detectors, rewritten: see detectors.py in ../README.md."""
