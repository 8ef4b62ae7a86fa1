"""Configuration files of the components; pure: state in, text out."""

import json
from typing import Any

from localcluster.state import State

PAUSE_IMAGE = "registry.local/pause:1"

CRASH_LOOP_MAX = "2s"
"""Longest wait of the kubelet before it restarts a container, so that tests that kill do not wait out back-offs."""


def files(state: State) -> dict[str, str]:
    """Path below the cluster's config directory -> content."""
    return {
        "kubelet.json": _json(kubelet(state)),
        "kube-proxy.json": _json(kube_proxy(state)),
        "containerd.toml": containerd(state),
        "cni/10-bridge.conflist": _json(cni(state)),
        "Corefile": corefile(state),
        "resolv.conf": f"nameserver {state.addresses.dns_ip}\n",
        "audit.json": _json(audit_policy()),
        "kwok.yaml": KWOK_STAGES,
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def kubelet(state: State) -> dict[str, Any]:
    """KubeletConfiguration."""
    at, layout = state.addresses, state.layout
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{at.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,  # lowering it needs CAP_SYS_RESOURCE, which containers and small VMs often lack
        "makeIPTablesUtilChains": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [at.dns_ip],
        "resolvConf": str(layout.config / "resolv.conf"),
        "podLogsDir": str(layout.pod_logs),
        "volumePluginDir": str(layout.kubelet / "volume-plugins"),
        "tlsCertFile": str(layout.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet-server.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "serializeImagePulls": False,
        "maxPods": 200,
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "crashLoopBackOff": {"maxContainerRestartPeriod": CRASH_LOOP_MAX},
    }


def kube_proxy(state: State) -> dict[str, Any]:
    """KubeProxyConfiguration."""
    at = state.addresses
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "bindAddress": "0.0.0.0",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(state.layout.config / "kube-proxy.kubeconfig")},
        "clusterCIDR": at.pod_cidr,
        "hostnameOverride": at.node_name,
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    }


def containerd(state: State) -> str:
    """containerd's configuration. Everything that would go to a fixed path of the host is moved below the cluster's
    directory, so that clusters do not meet and removal finds it."""
    layout = state.layout
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{layout.containerd}/root"
state = "{layout.containerd}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
]

[grpc]
address = "{layout.socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{layout.containerd}/opt"

[{cri}]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
Root = "{layout.containerd}/runc"

[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{layout.cni}"
"""


def cni(state: State) -> dict[str, Any]:
    """The pod network: one bridge on the node."""
    at = state.addresses
    return {
        "cniVersion": "1.0.0",
        "name": at.node_name,
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(state.layout.config / "cni-addresses"),
                    "ranges": [[{"subnet": at.pod_cidr, "gateway": at.dns_ip}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def corefile(state: State) -> str:
    """CoreDNS: the cluster's names, and at once NXDOMAIN for all others. `template` sits in a block of its own because
    it would answer before `kubernetes` in the same one."""
    at, config = state.addresses, state.layout.config
    return f"""\
cluster.local:53 in-addr.arpa:53 {{
    bind {at.dns_ip}
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {config}/coredns.kubeconfig coredns@{state.name}
        pods insecure
        ttl 5
    }}
    cache 5
    reload
}}
.:53 {{
    bind {at.dns_ip}
    errors
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""


def audit_policy() -> dict[str, Any]:
    """Who asked the API server for what, without bodies; benchmarks count writes from it."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version"]},
            {"level": "None", "userGroups": ["system:nodes"]},
            {"level": "None", "users": ["system:apiserver", "system:kube-scheduler", "system:kube-proxy"]},
            {"level": "Metadata"},
        ],
    }


def coredns_rbac() -> list[tuple[str, dict[str, Any]]]:
    """(collection path, object): the right to read what CoreDNS answers from."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    name = {"name": "system:coredns"}
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    return [
        (f"{rbac}/clusterroles", {"metadata": name, "rules": rules}),
        (
            f"{rbac}/clusterrolebindings",
            {
                "metadata": name,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", **name},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", **name}],
            },
        ),
    ]


FAKE_TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}


def fake_node(number: int) -> dict[str, Any]:
    """A Node that KWOK plays; pods reach it by a toleration of FAKE_TAINT and the node selector type=fake."""
    name = f"fake-{number}"
    resources = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
    return {
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "fake"},
        },
        "spec": {"taints": [FAKE_TAINT]},
        "status": {"capacity": resources, "allocatable": resources},
    }


STORAGE_CLASS = "standard"


def storage_class() -> dict[str, Any]:
    """The default StorageClass, named as kind names its own."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
    }


def volume(state: State, number: int) -> dict[str, Any]:
    """A ready-made PersistentVolume of the default class: there is no provisioner, a claim binds to one of these. It is
    used once; its directory goes with the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"local-{number:03d}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "hostPath": {"path": str(state.layout.volumes / f"{number:03d}")},
        },
    }


def collection(body: dict[str, Any]) -> str:
    """The path to which an object of the kinds above is posted."""
    return {
        "StorageClass": "/apis/storage.k8s.io/v1/storageclasses",
        "PersistentVolume": "/api/v1/persistentvolumes",
    }[body["kind"]]


KWOK_STAGES = """\
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: node-becomes-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchExpressions:
    - key: '.status.conditions.[] | select( .type == "Ready" ) | .status'
      operator: NotIn  # codespell:ignore
      values: ["True"]
  next:
    statusTemplate: |
      addresses:
      - {type: InternalIP, address: {{ NodeIP | Quote }}}
      - {type: Hostname, address: {{ .metadata.name | Quote }}}
      conditions:
      - type: Ready
        status: "True"
        reason: FakeNode
        message: played by kwok
        lastHeartbeatTime: {{ Now | Quote }}
        lastTransitionTime: {{ Now | Quote }}
      phase: Running
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-runs}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
    - {key: .status.podIP, operator: DoesNotExist}
  next:
    statusTemplate: |
      phase: Running
      startTime: {{ Now | Quote }}
      hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
      podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
      conditions:
      - {type: Initialized, status: "True", lastTransitionTime: {{ Now | Quote }}}
      - {type: ContainersReady, status: "True", lastTransitionTime: {{ Now | Quote }}}
      - {type: Ready, status: "True", lastTransitionTime: {{ Now | Quote }}}
      containerStatuses:
      {{ range .spec.containers }}
      - name: {{ .name | Quote }}
        image: {{ .image | Quote }}
        ready: true
        started: true
        restartCount: 0
        state: {running: {startedAt: {{ Now | Quote }}}}
      {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: job-pod-succeeds}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
    - {key: .status.phase, operator: In, values: [Running]}
    - {key: '.metadata.ownerReferences.[].kind', operator: In, values: [Job]}
  next:
    statusTemplate: |
      phase: Succeeded
      containerStatuses:
      {{ range .spec.containers }}
      - name: {{ .name | Quote }}
        image: {{ .image | Quote }}
        ready: false
        started: false
        restartCount: 0
        state:
          terminated:
            exitCode: 0
            reason: Completed
            startedAt: {{ Now | Quote }}
            finishedAt: {{ Now | Quote }}
      {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-is-deleted}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: Exists}
  next:
    finalizers: {empty: true}
    delete: true
"""
