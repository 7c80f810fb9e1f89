"""Who may connect to whom, by the NetworkPolicies among manifests."""

from tests.deploy.engines.manifests import Manifest, of_kind


def may_connect(found: list[Manifest], source: str, target: str, port: int) -> bool:
    """By the policies of both ends: a workload's name, `monitoring` (a pod of that namespace), or anything else."""
    return _allowed(found, source, "Egress", target, port) and _allowed(found, target, "Ingress", source, port)


def _allowed(found: list[Manifest], pod: str, direction: str, other: str, port: int) -> bool:
    policies = [
        policy["spec"]
        for policy in of_kind(found, "NetworkPolicy").values()
        if _selects(policy["spec"]["podSelector"], found, pod) and direction in policy["spec"]["policyTypes"]
    ]
    peers = {"Egress": "to", "Ingress": "from"}[direction]
    rules = [rule for policy in policies for rule in policy.get(direction.lower(), [])]
    return not policies or any(
        port in [allowed["port"] for allowed in rule["ports"]]
        and (peers not in rule or any(_is_peer(peer, found, other) for peer in rule[peers]))
        for rule in rules
    )


def _is_peer(peer: Manifest, found: list[Manifest], name: str) -> bool:
    if "namespaceSelector" in peer:
        return bool(peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": name})
    return "podSelector" in peer and _selects(peer["podSelector"], found, name)


def _selects(selector: Manifest, found: list[Manifest], name: str) -> bool:
    workload = of_kind(found, "Deployment").get(name) or of_kind(found, "Job").get(name)
    if workload is None:
        return False
    labels = workload["spec"]["template"]["metadata"]["labels"]
    return bool(selector["matchLabels"].items() <= labels.items())
