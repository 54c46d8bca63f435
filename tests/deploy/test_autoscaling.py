"""The queries of KEDA do not mistake missing metrics for an empty queue."""

import pytest
import yaml
from conftest import rendered, tool

SCALED = rendered("gpu").one("ScaledObject")["spec"]
TRIGGERS = [trigger for trigger in SCALED["triggers"] if trigger["type"] == "prometheus"]
QUEUE, WAIT = [trigger["metadata"]["query"] for trigger in TRIGGERS]
MINUTES = 5


def jobs(pod, count, model="vqa"):
    """Returns the queue of a pod."""
    labels = f'namespace="vision",pod="shop-blip-serve-{pod}",model="{model}"'
    return {"series": f"blip_queue_jobs{{{labels}}}", "values": f"{count}x{MINUTES}"}


def waits(pod, rate):
    """Returns the histogram of a pod with `rate` jobs a minute, which waited 0.1 to 0.5 s."""
    labels = f'namespace="vision",pod="shop-blip-serve-{pod}",model="vqa"'
    return [
        {
            "series": f'blip_queue_wait_seconds_bucket{{{labels},le="{bound}"}}',
            "values": f"0+{rate if bound != '0.1' else 0}x{MINUTES}",
        }
        for bound in ("0.1", "0.5", "+Inf")
    ]


@pytest.mark.parametrize(
    "query, series, value",
    [
        # The mean over pods, each with all its models.
        (QUEUE, [jobs("a", 90), jobs("b", 30), jobs("b", 60, "caption")], 90),
        # Prometheus has lost b and c: the mean stays.
        (QUEUE, [jobs("a", 90)], 90),
        (QUEUE, [jobs("a", 0), jobs("b", 0)], 0),
        # Prometheus has lost all pods: no value, not 0.
        (QUEUE, [], None),
        (WAIT, [jobs("a", 9), *waits("a", 60)], 0.46),  # 0.1 + 0.9 * (0.5 - 0.1)
        # No questions, but a pod that reports so.
        (WAIT, [jobs("a", 0), *waits("a", 0)], 0),
        (WAIT, [], None),
        # Pods of other releases and namespaces do not count.
        (QUEUE, [{"series": 'blip_queue_jobs{namespace="other",pod="shop-blip-serve-a"}', "values": "9x5"}], None),
        (QUEUE, [{"series": 'blip_queue_jobs{namespace="vision",pod="sale-blip-serve-a"}', "values": "9x5"}], None),
    ],
)
def test_keda_queries_return_no_value_for_lost_pods(query, series, value, tmp_path):
    samples = [] if value is None else [{"labels": "{}", "value": value}]
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {"expr": f"round({query}, 0.01)", "eval_time": f"{MINUTES}m", "exp_samples": samples}
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
    result = tool("promtool", "test", "rules", file)
    assert result.returncode == 0, result.stdout + result.stderr


def test_keda_holds_pods_without_metrics():
    # By default, KEDA reads a missing value as 0, and a failed query leads to the fallback.
    scaled = rendered("gpu", "--set", "keda.minReplicas=3").one("ScaledObject")["spec"]
    assert ignored_values(scaled) == ["false", "false"]
    # A total would shrink with each lost pod.
    assert [trigger["metricType"] for trigger in TRIGGERS] == ["Value", "Value"]
    assert scaled["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert scaled["fallback"]["replicas"] == scaled["minReplicaCount"] == 3


def test_keda_stays_at_zero_without_pods():
    # Without pods there are no metrics. An error and a fallback would start a pod again and again.
    assert SCALED["minReplicaCount"] == 0
    assert ignored_values(SCALED) == ["true", "true"]
    assert "fallback" not in SCALED


def ignored_values(scaled):
    triggers = [trigger for trigger in scaled["triggers"] if trigger["type"] == "prometheus"]
    return [trigger["metadata"]["ignoreNullValues"] for trigger in triggers]
