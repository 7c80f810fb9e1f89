"""Deployment shapes: the same API as one process or as several, over real sockets."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Process, serving

# A shape is named by its processes' targets.
ALL = "all"
SHAPES = (ALL, "gateway+auth+events", "gateway,events+auth")

CREDENTIAL = "the services of a test know each other by it"


@dataclass
class Deployment:
    """`processes` are found by their targets, a target's second replica by `<target> 2`."""

    processes: dict[str, Process]
    database_url: str

    @property
    def public(self) -> Process:
        """The one that clients reach: it has the gateway, and was started last."""
        return list(self.processes.values())[-1]


@contextmanager
def deployed(
    shape: str, database_url: str, folder: Path, *, program: Sequence[str] | None = None, **settings: str
) -> Iterator[Deployment]:
    """Every process of a shape, ready; `program` and `settings` as for `serving`, for each of them.

    A target that a shape names twice has two replicas. What shares `folder` shares the signing key.
    """
    # Whoever is called is started before its caller, which is told the address: auth, events, gateway.
    order = ("auth", "events", "gateway", ALL)
    known: dict[str, str] = {} if shape == ALL else {"RPC_CREDENTIAL": CREDENTIAL}
    peers: dict[str, list[str]] = {"auth": [], "events": []}
    deployment = Deployment({}, database_url)
    with ExitStack() as stack:
        for target in sorted(shape.split("+"), key=lambda target: max(map(order.index, target.split(",")))):
            running = serving(database_url, folder, target, program=program, **{**known, **settings})
            process = stack.enter_context(running)
            deployment.processes[f"{target} 2" if target in deployment.processes else target] = process
            for part in peers.keys() & set(target.split(",")):
                peers[part].append(process.url)
                known[f"PEERS_{part.upper()}"] = ",".join(peers[part])
        yield deployment
