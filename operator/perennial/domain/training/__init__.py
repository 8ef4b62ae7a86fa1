"""Training decisions: runs, attempts, failures, the gate, the champion and lineage. Pure; no I/O, no clock."""
