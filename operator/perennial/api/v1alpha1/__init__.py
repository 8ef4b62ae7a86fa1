"""The five kinds of `perennial.dev/v1alpha1` as pydantic models: the single source of CRDs and reference page."""

from perennial.api.v1alpha1.drift_policy import DriftPolicy
from perennial.api.v1alpha1.git_sync import GitSync
from perennial.api.v1alpha1.model_deployment import ModelDeployment
from perennial.api.v1alpha1.model_version import ModelVersion
from perennial.api.v1alpha1.training_job import TrainingJob

RESOURCES = (GitSync, TrainingJob, ModelVersion, ModelDeployment, DriftPolicy)

__all__ = ["RESOURCES", "DriftPolicy", "GitSync", "ModelDeployment", "ModelVersion", "TrainingJob"]
