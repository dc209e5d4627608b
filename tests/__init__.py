"""The tests of ibtrace: one property per file."""
