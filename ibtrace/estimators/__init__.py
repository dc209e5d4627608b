"""Estimators of mutual information, one method per file."""
