"""Reads compose.yaml: what Docker runs of it, and what the local runner runs without Docker.

`read_stack` answers as Docker Compose understands the files, with everything filled in;
`read_compose` gives the services with `x-local` (stack/README.md lists its keys), which `fill_in`
completes once the variables are known. Both refuse by name whatever they do not understand, so
that a setting is never silently without effect.
"""

from stack.compose.files import all_variables, read_compose, read_stack
from stack.compose.local import (
    HealthCheck,
    HealthKind,
    LocalService,
    Probe,
    Service,
    fill_in,
    variables_in,
)
from stack.compose.reader import Condition
from stack.compose.records import (
    Build,
    BuildSecret,
    Container,
    ContainerHealth,
    Device,
    Logging,
    Mount,
    Network,
    Port,
    SecretFiles,
    Stack,
    Volume,
)
from stack.compose.variables import REFERENCE

__all__ = [
    "REFERENCE",
    "Build",
    "BuildSecret",
    "Condition",
    "Container",
    "ContainerHealth",
    "Device",
    "HealthCheck",
    "HealthKind",
    "LocalService",
    "Logging",
    "Mount",
    "Network",
    "Port",
    "Probe",
    "SecretFiles",
    "Service",
    "Stack",
    "Volume",
    "all_variables",
    "fill_in",
    "read_compose",
    "read_stack",
    "variables_in",
]
