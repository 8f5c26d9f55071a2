//! Continuous SQL views over event time, exactly once.
