//! Anomaly detectors, alert rules and their delivery.
