"""Labels, annotations, field managers and names that more than one part must spell alike.

Only constants live here. Names of child objects are built in `render`, because they depend on the parent.
"""

MANAGED_BY_PERENNIAL = "perennial"
"""The value of LABEL_MANAGED_BY on every object that the operator makes; the watches select children by it."""

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_OWNER_KIND = "perennial.dev/owner-kind"
LABEL_OWNER_NAME = "perennial.dev/owner-name"
LABEL_DEPLOYMENT = "perennial.dev/deployment"
LABEL_REVISION = "perennial.dev/revision"
LABEL_RUN = "perennial.dev/run"
LABEL_ATTEMPT = "perennial.dev/attempt"
LABEL_MODEL = "perennial.dev/model"
LABEL_VERSION = "perennial.dev/version"
LABEL_SERVED_NAME = "perennial.dev/served-name"
"""On a revision's Service, and by Kubernetes on its EndpointSlices: the name that its server knows the model by."""
LABEL_COMPONENT = "perennial.dev/component"
LABEL_SYNC = "perennial.dev/sync"

COMPONENT_SERVER = "server"
COMPONENT_ROUTER = "router"
COMPONENT_TRAINING = "training"
COMPONENT_REPORT = "report"
COMPONENT_SMOKE = "smoke"

ANNOTATION_COMMAND = "perennial.dev/command"
ANNOTATION_SYNC_REQUESTED = "perennial.dev/sync-requested"
ANNOTATION_PRUNE = "perennial.dev/prune"
ANNOTATION_SYNC_PATH = "perennial.dev/path"
ANNOTATION_SYNC_COMMIT = "perennial.dev/commit"
ANNOTATION_SYNC_AUTHORS = "perennial.dev/authors"
"""Who wrote the change that a GitSync applied, as JSON, on what forbids approving one's own change."""
ANNOTATION_SPEC_HASH = "perennial.dev/spec-hash"
ANNOTATION_HASH_RECIPE = "perennial.dev/hash-recipe"
ANNOTATION_DIGEST = "perennial.dev/digest"
ANNOTATION_VERSION = "perennial.dev/version"
ANNOTATION_ENTRY = "perennial.dev/runtime-entry"
"""The resolved runtime entry of a revision, as JSON on its Deployment: what it was made with."""
ANNOTATION_SCALE_DOWN_AT = "perennial.dev/scale-down-at"
"""The absolute time after which an old revision may be scaled to zero."""
ANNOTATION_TRIGGER = "perennial.dev/trigger"

PRUNE_DISABLED = "disabled"

FIELD_MANAGER_PREFIX = "perennial-"
ACCOUNT_SYNC = "perennial-sync"
ROUTER = "perennial-router"
"""The router's Deployment, Service account, ClusterRole and token Secret in a namespace all have this name."""

LABEL_JOB_NAME = "batch.kubernetes.io/job-name"
"""By Kubernetes on each pod of a Job."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"

HEADER_OBSERVE = "x-perennial-observe"
HEADER_REVISION = "x-perennial-revision"

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
RESERVED_NAMES = "^perennial-|-rev-|-run-|-rev$|-run$"
"""Names that an object of ours may not have, because children's names are made from it."""
MAX_NAME_LENGTH = 40
MAX_SHORT_NAME_LENGTH = 30
"""DriftPolicy names and model names: what is made from them gets a longer suffix."""
