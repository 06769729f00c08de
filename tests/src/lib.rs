//! End-to-end tests of eddy; everything is under `end_to_end/`.
