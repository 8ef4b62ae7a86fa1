"""A real Kubernetes cluster on one Linux machine, built from published Go modules, and the driver that runs it.

Standard library only, so that it works before anything of the project is installed. It must not be imported by the
operator: it serves development, tests and the demo.
"""
