"""Every reason that an event or condition of Perennial carries: one constant each, with what it says.

Each controller has its own block. Reasons are API: people filter and alert on them, so never rename one.
"""

# --- TrainingJob ---------------------------------------------------------------------------------------------------
RUN_RECORDED = "RunRecorded"  # a run of the current spec was recorded; its Job follows
RUN_SUPERSEDED = "RunSuperseded"  # the spec changed while a run was going; that run is cancelled
RUN_SUCCEEDED = "RunSucceeded"  # the run made a version that passed its gate
ATTEMPT_STARTED = "AttemptStarted"  # the Job of an attempt was created
ATTEMPT_FAILED = "AttemptFailed"  # an attempt failed and another one follows
TRAINING_FAILED = "TrainingFailed"  # the run ended without a version
GATE_FAILED = "GateFailed"  # the run made a version that did not pass its gate
GATE_PASSED = "GatePassed"  # every check of the gate holds
ALREADY_MADE = "AlreadyMade"  # the version of this run existed before, so nothing is trained
DATA_VERIFIED = "DataVerified"  # all data was fetched, matches its digests and passed its tests
DATA_INVALID = "DataInvalid"  # the data does not match its digest, or its tests refuse it
SUSPENDED = "Suspended"  # spec.suspend is set, nothing starts
PENDING = "Pending"  # the attempt's first pod does not run yet
RETRYING = "Retrying"  # an attempt failed, the next one starts after the back-off
CANCELLING = "Cancelling"  # Jobs of a superseded or cancelled attempt are being removed
CHAMPION_UNKNOWN = "ChampionUnknown"  # the deployment or version that names the champion does not exist
CHAMPION_AMBIGUOUS = "ChampionAmbiguous"  # several deployments serve this model and none is named
BASE_UNKNOWN = "BaseUnknown"  # the version that spec.base names does not exist
VOLUME_NAME_TAKEN = "VolumeNameTaken"  # spec.template names a volume of the operator's
NAME_TAKEN = "NameTaken"  # a child's name belongs to an object that is not ours
DEADLINE_EXCEEDED = "DeadlineExceeded"  # the attempt ran longer than spec.deadlineSeconds
RECORD_LOST = "RecordLost"  # the run's record cannot be read any more, not even from the store
PUBLISH_FAILED = "PublishFailed"  # publish ended well but its message or record is not what it must be
QUOTA = "Quota"  # a resource quota refuses the attempt's pods
POD_REFUSED = "PodRefused"  # the API server refuses the attempt's pods
UNSCHEDULABLE = "Unschedulable"  # no node can take the attempt's pods
IMAGE_PULL = "ImagePull"  # a container's image cannot be had
CONTAINER_CONFIG = "ContainerConfig"  # a container cannot be made: a Secret or one of its keys is missing
VOLUME = "Volume"  # a volume of the attempt's pod is missing
QUEUED = "Queued"  # the queue has not admitted the Job

# --- ModelVersion --------------------------------------------------------------------------------------------------
RECORD_COMPLETE = "RecordComplete"  # the version names a readable artifact by a well-formed digest
RECORD_INCOMPLETE = "RecordIncomplete"  # the version lacks its artifact's location or digest

# --- ModelDeployment -----------------------------------------------------------------------------------------------
SERVING = "Serving"  # what is asked for serves
NO_VERSION_YET = "NoVersionYet"  # no version is named, so nothing is rolled out
VERSION_UNKNOWN = "VersionUnknown"  # the named ModelVersion does not exist (yet)
VERSION_OF_OTHER_MODEL = "VersionOfOtherModel"  # the named ModelVersion belongs to another model
VERSION_CHOSEN = "VersionChosen"  # updatePolicy Direct chose another version
NO_GIT_SYNC = "NoGitSync"  # updatePolicy Git, but no GitSync keeps this document
NOT_GATED = "NotGated"  # a version is rolled out that no gate has passed
GATEWAY_API_MISSING = "GatewayApiMissing"  # spec.traffic.gateway is set, and the cluster has no Gateway API
GATEWAY_PENDING = "GatewayPending"  # stable serves; its HTTPRoute is being written or removed
GATEWAY_NOT_READY = "GatewayNotReady"  # stable serves, but a Gateway does not send requests by its HTTPRoute
PODS_NOT_READY = "PodsNotReady"  # stable is what is asked for, but its pods are not ready
STABLE_LOST = "StableLost"  # stable has no ready pod while a canary has; the routers send it all requests
ROLLOUT_STARTED = "RolloutStarted"  # the canary of a revision begins
SMOKE_STARTED = "SmokeStarted"  # a Job sends sample inputs of the version to the canary
SMOKE_RETRIED = "SmokeRetried"  # that Job left no report; another one is made
SMOKE_PASSED = "SmokePassed"  # the canary has answered sample inputs well enough
STEP_STARTED = "StepStarted"  # the next weight is prepared
WEIGHT_SET = "WeightSet"  # status.traffic gives the canary another weight
WEIGHT_VERIFIED = "WeightVerified"  # every ready router confirms the weight; requests are counted
NO_ROOM = "NoRoom"  # the scheduler finds no room beside stable; the canary takes its place
APPROVAL_NEEDED = "ApprovalNeeded"  # the step is done and waits for a person
APPROVAL_REFUSED = "ApprovalRefused"  # whoever wrote the change may not let it go on
SIGNATURE_DIFFERS = "SignatureDiffers"  # the canary wants other inputs than stable and waits for a person
APPROVED = "Approved"  # a person let the step go on
INCONCLUSIVE = "Inconclusive"  # no verdict by maxSeconds
PROMOTED = "Promoted"  # the canary became stable
CANARY_FAILED = "CanaryFailed"  # a verdict aborted the canary; the revision is not tried again by itself
PREDICTIONS_DIFFER = "PredictionsDiffer"  # the canary answers otherwise than stable on the same traffic: aborted
NULL_PREDICTIONS = "NullPredictions"  # the canary answers with missing values, NaN or infinity: aborted
CONSTANT_PREDICTIONS = "ConstantPredictions"  # the canary answers one value while stable's vary: aborted
ABORTED = "Aborted"  # a person aborted the canary; the revision is not tried again by itself
PROGRESS_DEADLINE = "ProgressDeadlineExceeded"  # the pods of a step did not become available in time
SUPERSEDED = "Superseded"  # another revision was named during the rollout
REVERTED = "Reverted"  # stable was named again during the rollout
WITHDRAWN = "Withdrawn"  # the version of the rollout is no longer named
REJECTED = "Rejected"  # the ModelVersion of the rollout was rejected for this deployment
EXPIRED = "RolloutExpired"  # the rollout was held for holdMaxSeconds without a verdict
COMMAND_DONE = "CommandDone"  # a person's command was executed
COMMAND_IGNORED = "CommandIgnored"  # a person's command does not fit what is going on
ROUTER_REPLACED = "RouterReplaced"  # a router that did not apply weight 0 within 10 s is deleted

# --- DriftPolicy ---------------------------------------------------------------------------------------------------
WATCHING = "Watching"  # the policy works
DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"  # the ModelDeployment that the policy watches does not exist
TRAINING_JOB_NOT_FOUND = "TrainingJobNotFound"  # the TrainingJob whose spec a retrain copies does not exist
PROPOSE_NOT_AVAILABLE = "ProposeNotAvailable"  # action Propose; this release has no pull requests
PERFORMANCE_NOT_AVAILABLE = "PerformanceNotAvailable"  # source.performance; this release does not score labelled data
SCHEDULE_NOTIFY_NOT_AVAILABLE = "ScheduleNotifyNotAvailable"  # schedule.action Notify; a calendar can only retrain yet
SCHEDULE_INVALID = "ScheduleInvalid"  # the calendar or its time zone cannot be followed
FEATURE_NOT_FOUND = "FeatureNotFound"  # a listed feature is not in the baseline of what serves
NOTHING_TO_TEST = "NothingToTest"  # the baseline of what serves has no reference for what is tested
EFFECT_NOT_TESTABLE = "EffectNotTestable"  # the reference has too few rows to show such a small effect
DATA_PINNED = "DataPinned"  # new data is waited for, but all training data has a pinned digest
DRIFTED = "Drifted"  # drift lasts
DRIFT_WARNING = "DriftWarning"  # drifted, but for fewer windows than make drift
NO_DRIFT = "NoDrift"  # the last window has not drifted
DRIFT_DETECTED = "DriftDetected"  # drift was entered
DRIFT_CLEARED = "DriftCleared"  # drift was left
NO_WINDOW_YET = "NoWindowYet"  # no window of what serves has closed
NOTHING_SERVES = "NothingServes"  # the deployment serves no version
REVISION_CHANGED = "RevisionChanged"  # another revision became stable during the window
NO_BASELINE = "NoBaseline"  # the version that serves has no usable reference
WINDOW_LOST = "WindowLost"  # nobody read the routers' counts of the window in time
ROUTERS_SILENT = "RoutersSilent"  # routers could not be asked, and the others counted nothing
NO_DATA = "NoData"  # nothing was counted, or the query gave no number
TOO_FEW_SAMPLES = "TooFewSamples"  # too few rows or requests for a verdict
DATA_HEALTHY = "Healthy"  # missing values, zeros and categories are as in the reference
DATA_BROKEN = "DataBroken"  # a share of missing values, zeros or unseen categories jumped
DATA_NEEDS_DECISION = "DataNeedsDecision"  # broken data has held retraining for holdWindows; a person must say
DATA_ACCEPTED = "DataAccepted"  # a person accepted the data as it is
EVIDENCE_COMPLETE = "EvidenceComplete"  # the whole window could be asked about
EVIDENCE_MISSING = "EvidenceMissing"  # a router or the metrics source did not answer to the window's end
TRIGGER_STARTED = "TriggerStarted"  # a trigger was recorded
RETRAIN_STARTED = "RetrainStarted"  # a trigger starts its TrainingJob
RETRAIN_ENDED = "RetrainEnded"  # a trigger ended
BUDGET_EXHAUSTED = "BudgetExhausted"  # drift goes on and the budget of retrains is used up
