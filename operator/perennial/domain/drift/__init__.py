"""What drift is and when it is reason to train again. Decisions only: no I/O, no clock, no third-party client."""
