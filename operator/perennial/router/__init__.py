"""The data plane: what runs beside Envoy in a router pod. Must not write to the Kubernetes API."""
