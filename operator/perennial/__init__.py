"""Perennial: a Kubernetes operator for GitOps of machine-learning models."""

__version__ = "0.1.0"
