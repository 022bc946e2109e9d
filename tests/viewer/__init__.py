"""The real viewer in a real browser; skipped, with a reason, where either is missing."""
