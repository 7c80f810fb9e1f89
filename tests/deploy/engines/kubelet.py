"""What a kubelet does with a pod's manifest, for processes of this machine: volumes, account, probes, stop.

A pod has a mount namespace of its own, in which only its `emptyDir` can be written, and an address of the loopback
network instead of an interface. Names are in /etc/hosts, which the cluster writes: those of pods that are ready and not
about to end, as of a headless Service.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

import httpx

from tests.deploy.engines.fetch import ROOT
from tests.support.ports import free_port

# Seconds between two looks at what is due.
TICK = 0.02
# Seconds until callers know who is ready now: those of the API server, the name server and its caches. A real cluster
# may take longer, which `stopping.preStop` is for.
KNOWN_AFTER = 3.0
# A pod may take this long to be ready, with a machine that is busy.
PATIENCE = 60.0

ISOLATED = ("unshare", "--mount", "--propagation", "private")
# $1: the python, the repository, and its packages are what an image would hold; then SOURCE TARGET MODE of each volume,
# and after `--` the command.
SCRIPT = """
set -e
mount -t tmpfs -o mode=755 pod /run
mkdir -p /run/app/python /run/app/root /run/app/site
mount --bind "$1" /run/app/python
mount --bind "$2" /run/app/root
mount --bind "$3" /run/app/site
shift 3
while [ "$1" != -- ]; do
    [ -e "$2" ] || mkdir -p "$2"
    mount --bind "$1" "$2"
    mount -o "remount,bind,$3" "$2"
    shift 3
done
shift
mount -o remount,ro /run
mount -o remount,bind,ro /
cd /
exec "$@"
"""


@cache
def may_mount() -> bool:
    return subprocess.run([*ISOLATED, "true"], capture_output=True, check=False).returncode == 0


@cache
def image_environment() -> dict[str, str]:
    """What the Dockerfile sets, but for its PATH."""
    lines = re.findall(r"^ENV (EVENTBOARD_.*|.* EVENTBOARD_.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    found = dict(word.split("=", 1) for line in lines for word in line.split())
    return {name: value for name, value in found.items() if name != "PATH"}


@dataclass
class Cluster:
    """What the pods share. `secrets` are by a Secret's name, their values by key; `names` have an address each.

    `uid` is the account of pods whose manifest names none: OpenShift chooses one.
    """

    folder: Path
    secrets: dict[str, dict[str, str]]
    names: Mapping[str, str]
    uid: int | None = None
    pods: list["Pod"] = field(default_factory=list)
    _ports: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def port(self, of_container: int) -> int:
        """The same one in all pods: they have addresses of their own."""
        return self._ports.setdefault(of_container, free_port())

    @property
    def hosts(self) -> Path:
        return self.folder / "hosts"

    def publish(self) -> None:
        """Written in place: the pods have mounted this very file."""
        with self._lock:
            lines = [f"{address} {name}" for name, address in self.names.items()]
            lines += [f"{pod.address} {pod.service}" for pod in self.pods if pod.published]
            text = "\n".join(["127.0.0.1 localhost", *lines, ""])
            with self.hosts.open("r+" if self.hosts.exists() else "w") as file:
                file.write(text)
                file.truncate()

    def start(self, workload: Mapping[str, Any], address: str) -> "Pod":
        """A pod of a Deployment or a Job, by its manifest."""
        pod = Pod(self, workload, address)
        self.pods.append(pod)
        pod.start()
        return pod

    def close(self) -> None:
        for pod in self.pods:
            pod.kill()


class Pod:
    """`ready` is what its probes found; `restarts` are those that a kubelet would have done; `killed`: by force."""

    def __init__(self, cluster: Cluster, workload: Mapping[str, Any], address: str) -> None:
        self._cluster = cluster
        self.service = str(workload["metadata"]["name"])
        self.spec = workload["spec"]["template"]["spec"]
        (self._container,) = self.spec["containers"]
        self.address = address
        self.ready = self.published = self.killed = False
        self.restarts = 0
        self.seconds_to_end = 0.0
        self._deleted = threading.Event()
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by kill()
        self._folder = Path(tempfile.mkdtemp(dir=cluster.folder))
        self._thread = threading.Thread(target=self._live, name=f"kubelet of {self.service}")
        self.popen: subprocess.Popen[bytes]

    @property
    def output(self) -> str:
        file = self._output.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def start(self) -> None:
        volumes = [str(self._cluster.hosts), "/etc/hosts", "ro"]
        made = {volume["name"]: volume for volume in self.spec["volumes"]}
        # /tmp last: the folders of the others may be in this machine's.
        for mount in sorted(self._container["volumeMounts"], key=lambda mount: str(mount["mountPath"])):
            volume = made[mount["name"]]
            mode = "ro" if mount.get("readOnly") else "rw"
            volumes += [str(self._volume(volume)), mount["mountPath"], mode]
        image = [sys.base_prefix, str(ROOT), sysconfig.get_path("purelib")]
        self.popen = subprocess.Popen(
            [*ISOLATED, "sh", "-c", SCRIPT, "sh", *image, *volumes, "--", *self._command()],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if "ports" in self._container:
            self._thread.start()

    def until_ready(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.published:
            assert self.popen.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(TICK)

    def until_complete(self) -> None:
        """Of a Job."""
        assert self.popen.wait(PATIENCE) == 0, self.output

    def update(self, volume: str) -> None:
        """A kubelet does it a minute after its Secret has changed."""
        (found,) = (one for one in self.spec["volumes"] if one["name"] == volume)
        self._fill(self._folder / volume, found)

    def delete(self) -> None:
        """Returns at once: it ends by itself, as its manifest says."""
        self._deleted.set()

    def until_gone(self) -> None:
        self._thread.join(self.spec["terminationGracePeriodSeconds"] + PATIENCE)
        assert not self._thread.is_alive()

    def kill(self) -> None:
        self._deleted.set()
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        if self._thread.ident is not None:
            self._thread.join()
        self._output.close()

    # -----------------------------------------------------------------------------------------------------------------

    def _command(self) -> list[str]:
        context = self.spec["securityContext"]
        uid = context.get("runAsUser", self._cluster.uid)
        account = ["setpriv", "--reuid", str(uid), "--regid", str(context.get("runAsGroup", 0))]
        account += ["--groups", str(self._group)]
        account += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        here = {"PATH": os.defpath, "HOME": "/", "LD_LIBRARY_PATH": "/run/app/python/lib"}
        here["PYTHONPATH"] = "/run/app/root/src:/run/app/site"
        stated = {variable["name"]: self._here(variable["value"]) for variable in self._container["env"]}
        if "ports" in self._container:
            stated["EVENTBOARD_SERVER_HOST"] = stated["EVENTBOARD_SERVER_ADMIN_HOST"] = self.address
        variables = [f"{name}={value}" for name, value in {**image_environment(), **here, **stated}.items()]
        python = f"/run/app/python/bin/python3.{sys.version_info.minor}"
        return ["env", "-i", *variables, *account, python, "-m", "eventboard", *self._container["args"]]

    @property
    def _group(self) -> int:
        """Which may read the Secrets' files."""
        return int(self.spec["securityContext"].get("fsGroup", self._cluster.uid))

    def _here(self, value: str) -> str:
        """With this machine's ports instead of the manifest's."""
        return re.sub(r"(?<![\d.])3[09]0[012]\b", lambda found: str(self._cluster.port(int(found[0]))), value)

    def _volume(self, volume: Mapping[str, Any]) -> Path:
        """Its folder, as wide open as a kubelet leaves it: nobody can write to what is mounted read-only."""
        folder = self._folder / str(volume["name"])
        folder.mkdir()
        os.chown(folder, 0, self._group)
        folder.chmod(0o3777)
        if "emptyDir" in volume:
            return folder
        self._fill(folder, volume)
        return folder

    def _fill(self, folder: Path, volume: Mapping[str, Any]) -> None:
        """A file is a link through `..data`, which is replaced at once: first the content, then the names."""
        projected = volume.get("projected") or {"sources": [{"secret": volume["secret"]}], **volume["secret"]}
        version = Path(tempfile.mkdtemp(prefix="..version_", dir=folder))
        for source in projected["sources"]:
            secret = source["secret"]
            values = self._cluster.secrets[secret.get("name") or secret["secretName"]]
            for item in secret.get("items") or [{"key": key, "path": key} for key in values]:
                file = version / str(item["path"])
                file.write_text(values[item["key"]])
                os.chown(file, 0, self._group)
                file.chmod(projected["defaultMode"])
        os.chown(version, 0, self._group)
        version.chmod(0o2755)
        (folder / "..data_tmp").symlink_to(version.name)
        (folder / "..data_tmp").rename(folder / "..data")
        names = {file.name for file in version.iterdir()}
        for link in folder.iterdir():
            if not link.name.startswith("..") and link.name not in names:
                link.unlink()
        for name in names:
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")
        for old in folder.glob("..version_*"):
            if old != version:
                shutil.rmtree(old)

    def _live(self) -> None:
        with httpx.Client() as client:
            self._probe_until_deleted(client)
        self.ready = False
        self._soon_published(False)
        self._end()

    def _probe_until_deleted(self, client: httpx.Client) -> None:
        probes = {name: self._container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
        failed = dict.fromkeys(probes, 0)
        due = dict.fromkeys(probes, 0.0)
        started = False
        while not self._deleted.wait(TICK):
            for name, probe in probes.items():
                if (name == "startup") == started or due[name] > time.monotonic():
                    continue
                due[name] = time.monotonic() + probe["periodSeconds"]
                succeeded = self._succeeds(client, probe)
                failed[name] = 0 if succeeded else failed[name] + 1
                started = started or succeeded
                if name == "readiness":
                    now = succeeded or (self.ready and failed[name] < probe["failureThreshold"])
                    if now != self.ready:
                        self.ready = now
                        self._soon_published(now)
                elif failed[name] == probe["failureThreshold"]:
                    self.restarts += 1

    def _succeeds(self, client: httpx.Client, probe: Mapping[str, Any]) -> bool:
        how = probe["httpGet"]
        (port,) = (port["containerPort"] for port in self._container["ports"] if port["name"] == how["port"])
        url = f"http://{self.address}:{self._cluster.port(port)}{how['path']}"
        try:
            return 200 <= client.get(url, timeout=probe["timeoutSeconds"]).status_code < 400
        except httpx.TransportError:
            return False

    def _soon_published(self, ready: bool) -> None:
        def publish() -> None:
            self.published = ready
            self._cluster.publish()

        timer = threading.Timer(KNOWN_AFTER, publish)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        """preStop, SIGTERM, and SIGKILL when the time for both is over."""
        begun = time.monotonic()
        end = begun + self.spec["terminationGracePeriodSeconds"]
        self._wait_for_end(begun + self._container["lifecycle"]["preStop"]["sleep"]["seconds"])
        self.popen.terminate()
        if not self._wait_for_end(end):
            self.killed = True
            self.popen.kill()
            self.popen.wait()
        self.seconds_to_end = time.monotonic() - begun

    def _wait_for_end(self, until: float) -> bool:
        while self.popen.poll() is None and time.monotonic() < until:
            time.sleep(TICK)
        return self.popen.poll() is not None
