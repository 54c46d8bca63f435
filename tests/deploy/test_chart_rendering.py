"""The contents of the rendered objects."""

import re
import tomllib

import pytest
from conftest import ROOT, VALUES, rendered


@pytest.mark.parametrize("values", VALUES)
def test_pods_meet_restricted_pod_security_standard(values):
    objects = rendered(values)
    for pod in [objects.pod, *(each["spec"] for each in objects.of("Pod"))]:
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize(
    "values, seconds",
    [
        ("minimal", 10 + 60 + 10),
        ("gpu", 15 + 120 + 10),
        ("client_certificates", 0 + 30 + 10),
        # The kubelet subtracts the time of a hook.
        ("extras", 10 + 60 + 7 + 10),
    ],
)
def test_termination_grace_period_covers_drain(values, seconds):
    assert rendered(values).pod["terminationGracePeriodSeconds"] == seconds


@pytest.mark.parametrize("values", VALUES)
def test_failed_pod_reports_end_of_log(values):
    assert rendered(values).server["terminationMessagePolicy"] == "FallbackToLogsOnError"


@pytest.mark.parametrize("values", [values for values in VALUES if values != "grpc_probes"])
def test_probes_use_metrics_listener(values):
    server = rendered(values).server
    probes = {probe: server[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")}
    assert probes == {
        "startup": {"path": "/healthz", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
        "liveness": {"path": "/livez", "port": "metrics"},
    }


def test_grpc_liveness_probe_survives_drain():
    server = rendered("grpc_probes").server
    assert server["startupProbe"]["grpc"] == {"port": 50051, "service": ""}
    assert server["readinessProbe"]["grpc"] == {"port": 50051, "service": "blip.v1.BlipService"}
    assert server["livenessProbe"]["tcpSocket"] == {"port": "grpc"}


@pytest.mark.parametrize("values, budget", [("minimal", 600), ("client_certificates", 31)])
def test_startup_probe_covers_start_budget(values, budget):
    probe = rendered(values).server["startupProbe"]
    assert budget <= probe["periodSeconds"] * probe["failureThreshold"] < budget + probe["periodSeconds"]
    assert rendered(values).one("Deployment")["spec"]["progressDeadlineSeconds"] > budget


@pytest.mark.parametrize("values", VALUES)
def test_ports_of_pod_services_and_configuration_agree(values):
    objects = rendered(values)
    ports = {port["name"]: port["containerPort"] for port in objects.server["ports"]}
    config = tomllib.loads(objects.config)
    assert {name: config[name]["listen"] for name in ports} == {
        name: f"0.0.0.0:{port}" for name, port in ports.items()
    }
    for service in objects.of("Service"):
        for port in service["spec"]["ports"]:
            assert (port["targetPort"], port["port"]) == (port["name"], ports[port["name"]])


def test_published_services_exclude_metrics_port():
    for values in VALUES:
        for service in rendered(values).of("Service"):
            has_metrics = any(port["name"] == "metrics" for port in service["spec"]["ports"])
            assert has_metrics == service["metadata"]["name"].endswith("-metrics")
    monitor = rendered("tls").one("ServiceMonitor")
    service = rendered("tls").of("Service", "-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_headless_service_exposes_every_pod():
    assert rendered("minimal").of("Service", "-headless")["spec"]["clusterIP"] == "None"
    assert len(rendered("client_certificates").of("Service")) == 1


def test_gpu_is_requested_and_required():
    objects = rendered("gpu")
    assert objects.server["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert objects.pod["runtimeClassName"] == "nvidia"
    assert objects.pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "disk": "fast"}
    assert [each["key"] for each in objects.pod["tolerations"]] == ["inference", "nvidia.com/gpu"]
    assert 'device = "cuda"' in objects.config
    assert objects.server["image"].endswith("-cuda")


def test_cpu_values_contain_no_gpu_settings():
    objects = rendered("minimal")
    assert "nvidia" not in str(objects.all)
    assert 'device = "cpu"' in objects.config


def test_gpu_rollout_needs_no_spare_gpu():
    assert rendered("gpu").one("Deployment")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 0,
        "maxUnavailable": 1,
    }
    assert rendered("minimal").one("Deployment")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 1,
        "maxUnavailable": 0,
    }


def test_autoscaler_owns_replica_count():
    assert rendered("minimal").one("Deployment")["spec"]["replicas"] == 2
    for values in ("gpu", "tls"):
        assert "replicas" not in rendered(values).one("Deployment")["spec"]


def test_configuration_change_starts_rollout():
    def checksum(*arguments):
        pod = rendered("minimal", *arguments).one("Deployment")["spec"]["template"]
        return pod["metadata"]["annotations"]["checksum/config"]

    assert checksum("--set", "config.limits.max_image_bytes=1000") != checksum()
    assert checksum("--set", "replicas=3") == checksum()


def test_only_prefetch_can_write_model_volume():
    objects = rendered("gpu")
    (prefetch,) = objects.pod["initContainers"]
    mounts = [
        next(mount for mount in each["volumeMounts"] if mount["name"] == "model")
        for each in (prefetch, objects.server)
    ]
    assert [mount.get("readOnly", False) for mount in mounts] == [False, True]
    claim = objects.one("PersistentVolumeClaim")
    assert {
        "name": "model",
        "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]},
    } in objects.pod["volumes"]


def test_prefetch_downloads_and_server_is_offline():
    objects = rendered("gpu")
    (prefetch,) = objects.pod["initContainers"]
    assert prefetch["args"] == ["download", tomllib.loads(objects.config)["model"]["source"]]
    assert prefetch["image"] == objects.server["image"]
    homes = [
        {each["name"]: each.get("value") for each in container["env"]}
        for container in (prefetch, objects.server)
    ]
    mount = next(mount for mount in objects.server["volumeMounts"] if mount["name"] == "model")
    assert [home["HF_HOME"] for home in homes] == [mount["mountPath"]] * 2
    assert [home.get("HF_HUB_OFFLINE") for home in homes] == [None, "1"]
    # Only the prefetch gets the token of the hub.
    assert ["HF_TOKEN" in home for home in homes] == [True, False]


def test_custom_prefetch_command_fills_folder():
    values = "model.source=/models/x,model.prefetch.image=registry.example.com/tool:1,model.prefetch.command={fetch,x}"
    objects = rendered("gpu", "--set", values)
    (prefetch,) = objects.pod["initContainers"]
    assert (prefetch["image"], prefetch["command"]) == ("registry.example.com/tool:1", ["fetch", "x"])
    assert "args" not in prefetch and "env" not in objects.server


def test_network_policy_allows_prefetch_without_fetching():
    rules = rendered("gpu", "--set", "config.fetch.enabled=false").one("NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in rules[1]["ports"]] == [443]


def egress_rules(values, *arguments):
    """Returns the egress rules except the one for DNS."""
    rules = rendered(values, *arguments).one("NetworkPolicy")["spec"]["egress"]
    return [rule for rule in rules if not any(port["port"] == 53 for port in rule["ports"])]


def egress(values):
    """Returns ([ports], [networks]) of the egress rule for fetches."""
    (rule,) = [rule for rule in egress_rules(values) if "ipBlock" in rule["to"][0]]
    return [port["port"] for port in rule["ports"]], [peer["ipBlock"] for peer in rule["to"]]


def test_network_policy_allows_fetch_destinations():
    ports, networks = egress("tls")
    assert ports == [443, 8443]
    assert [network["cidr"] for network in networks] == [
        "0.0.0.0/0",
        "2000::/3",
        "10.1.0.0/16",
        "fd00:1::/64",
    ]
    assert egress("minimal")[0] == [80, 443]


def test_network_policy_without_fetching_denies_egress():
    assert rendered("client_certificates").one("NetworkPolicy")["spec"]["egress"] == []


def test_network_policy_allows_collector_and_dns():
    collector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert egress_rules("tls")[1:] == [{"ports": [{"port": 4317}], "to": [collector]}]
    # The rule does not depend on fetching. By default it allows pods of the cluster only.
    endpoints = {"https://otlp.example.com": 443, "http://otel": 80, "http://[fd00::1]:4318": 4318}
    for endpoint, port in endpoints.items():
        policy = rendered("client_certificates", "--set", f"config.trace.otlp_endpoint={endpoint}").one(
            "NetworkPolicy"
        )
        dns, spans = policy["spec"]["egress"]
        assert {each["port"] for each in dns["ports"]} == {53}
        assert spans == {"ports": [{"port": port}], "to": [{"namespaceSelector": {}}]}, endpoint
    assert len(egress_rules("minimal")) == 1


def test_denied_networks_equal_those_of_server():
    source = (ROOT / "crates/images/src/fetch/address_policy.rs").read_text()
    v4 = {
        f"{a}.{b}.{c}.{d}/{prefix}"
        for a, b, c, d, prefix in re.findall(r"v4\((\d+), (\d+), (\d+), (\d+), (\d+),", source)
    }
    # Of IPv6 the policy allows global unicast only, 2000::/3, so that other exceptions have no
    # effect.
    v6 = set()
    for segments, prefix in re.findall(r"v6\(\[([^\]]+)\], (\d+),", source):
        words = [int(word, 0) for word in segments.split(",")]
        if 0x2000 <= words[0] <= 0x3FFF:
            v6.add(":".join(f"{word:x}" for word in words if word) + f"::/{prefix}")
    _, (four, six, *_) = egress("minimal")
    assert len(v4) > 10 and set(four["except"]) == v4
    assert len(v6) > 2 and set(six["except"]) == v6


def test_network_policy_separates_clients_and_scrapers():
    calls, scrapes = rendered("tls").one("NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for port in calls["ports"]] == ["grpc", "http"]
    assert calls["from"] == [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}]
    assert [port["port"] for port in scrapes["ports"]] == ["metrics"]
    assert scrapes["from"] != calls["from"]


def test_certificate_covers_services_and_is_mounted():
    objects = rendered("tls")
    certificate = objects.one("Certificate")["spec"]
    services = [each["metadata"]["name"] for each in objects.of("Service")]
    names = {f"{name}.vision.svc" for name in services if not name.endswith("-metrics")}
    assert names <= set(certificate["dnsNames"])
    (volume,) = [volume for volume in objects.pod["volumes"] if volume["name"] == "tls"]
    assert volume["secret"]["secretName"] == certificate["secretName"]


def test_api_keys_are_in_secret_only():
    objects = rendered("gpu")
    assert "battery-staple-in-plain-text" in objects.one("Secret")["stringData"]["keys.toml"]
    assert not any("battery-staple" in str(each) for each in objects.all if each["kind"] != "Secret")


def test_gateway_routes_services_that_clients_call():
    (rule,) = rendered("tls").one("GRPCRoute")["spec"]["rules"]
    # Administrators call pods, not the balanced service.
    assert {match["method"]["service"] for match in rule["matches"]} == {
        "blip.v1.BlipService",
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert rule["backendRefs"] == [{"name": "shop-blip-serve", "port": 50051}]


def test_http_route_leads_to_http_port():
    route = rendered("tls").one("HTTPRoute")["spec"]
    assert route["parentRefs"] == [{"name": "gateway", "namespace": "infra"}]
    assert route["hostnames"] == ["http.blip.example.com"]
    assert route["rules"] == [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"name": "shop-blip-serve", "port": 8080}],
        }
    ]
    # Without hostnames, the route applies to every name of the gateway.
    assert "hostnames" not in rendered("extras").one("HTTPRoute")["spec"]


def test_ingress_leads_every_host_to_http_port():
    ingress = rendered("extras").one("Ingress")
    assert ingress["metadata"]["annotations"] == {"nginx.ingress.kubernetes.io/proxy-body-size": "64m"}
    spec = ingress["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert [rule["host"] for rule in spec["rules"]] == spec["tls"][0]["hosts"]
    service = rendered("extras").of("Service", "blip-serve")
    for rule in spec["rules"]:
        (path,) = rule["http"]["paths"]
        assert (path["path"], path["pathType"]) == ("/", "Prefix")
        backend = path["backend"]["service"]
        assert backend["name"] == service["metadata"]["name"]
        assert backend["port"]["name"] == "http" in {port["name"] for port in service["spec"]["ports"]}


def test_ingress_without_hosts_applies_to_every_name():
    spec = rendered("minimal", "--set", "ingress.enabled=true").one("Ingress")["spec"]
    assert [set(rule) for rule in spec["rules"]] == [{"http"}]
    assert set(spec) == {"rules"}


def test_additions_reach_pod_and_server():
    objects = rendered("extras")
    assert objects.server["envFrom"] == [
        {"secretRef": {"name": "collector"}},
        {"prefix": "BLIP_SERVE__", "configMapRef": {"name": "settings", "optional": True}},
    ]
    assert objects.server["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    lists = {"name": "lists", "mountPath": "/etc/blip-serve/lists", "readOnly": True}
    assert lists in objects.server["volumeMounts"]
    assert {"name": "lists", "configMap": {"name": "candidate-lists"}} in objects.pod["volumes"]
    assert [each["name"] for each in objects.pod["containers"]] == ["blip-serve", "proxy"]
