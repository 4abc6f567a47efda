"""A real SLURM of two nodes on this machine, of which nothing is left afterwards. Needs root.

python tests/slurm/cluster.py install          # Debian's slurm-wlm and munge
python tests/slurm/cluster.py run sinfo        # start it, run a command in it (such as bash), stop it
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

NODES = ("node1", "node2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "squeue")
KILL_WAIT = 20  # seconds from SIGTERM to SIGKILL

# node2 is preferred where both are free; a requeued job waits for `cred_expire` seconds, by default 120.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobRequeue=1
KillWait={kill_wait}
SlurmdTimeout=10
MinJobAge=3600
SchedulerParameters=sched_interval=3,bf_interval=3
ReturnToService=0
MpiDefault=none
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=16 Weight=2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=16 Weight=1
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=10 DefaultTime=10 State=UP OverSubscribe=NO
"""


def missing() -> str | None:
    """Say what keeps a cluster from being started here."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not found: python tests/slurm/cluster.py install"
    return None if os.geteuid() == 0 else "SLURM's daemons must be started as root"


def install() -> None:
    """Install what is not there yet."""
    if all(map(shutil.which, PROGRAMS)):
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "--quiet=2"], check=True, env=environment)
    command = ["apt-get", "install", "--quiet=2", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]
    subprocess.run(command, check=True, env=environment)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not hold in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.3)


class Cluster:
    """munged, slurmctld and two slurmd, in a temporary folder of their own; a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            print(self.logs(), file=sys.stderr)
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self.folder.chmod(0o755)
        text = CONFIGURATION.format(host=socket.gethostname().split(".")[0], folder=self.folder, kill_wait=KILL_WAIT)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (self.folder / "state").mkdir()
        munge = self.folder / "munge"
        munge.mkdir()
        (munge / "key").write_bytes(secrets.token_bytes(128))
        (munge / "key").chmod(0o400)
        for path in (munge, munge / "key"):
            shutil.chown(path, "munge", "munge")
        files = [f"--{name}={munge / name.split('-')[0]}" for name in ("socket", "key-file", "pid-file", "seed-file")]
        as_munge = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
        self._daemon(*as_munge, "munged", "--foreground", *files, f"--log-file={munge / 'log'}")
        wait_for((munge / "socket").exists, 10, "munged's socket")
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: self.states() == dict.fromkeys(NODES, "idle"), 30, "both nodes idle")

    def _daemon(self, *command: str) -> None:
        # Should this process be killed, they go with it.
        bound = ["setpriv", "--pdeathsig=KILL", *command]
        with (self.folder / "daemons.log").open("ab") as log:
            self._daemons.append(
                subprocess.Popen(bound, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def start_node(self, node: str) -> None:
        self._daemon("slurmd", "-D", "-N", node)

    def return_node(self, node: str) -> None:
        """Start a node again after it was down."""
        self.start_node(node)
        self.command("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.wait_for_state(node, "idle")

    def wait_for_state(self, node: str, state: str) -> None:
        wait_for(lambda: self.states()[node].startswith(state), 60, f"{node} is {state}")

    def cut_off(self, node: str) -> None:
        """Kill a node's daemon alone, so that SLURM does not hear of the node, where jobs go on."""
        _kill(int((self.folder / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)

    def power_off(self, node: str) -> None:
        """Kill all that runs on a node at once."""
        mark = f"SLURMD_NODENAME={node}".encode()
        running = [pid for pid in self._processes() if mark in _read(pid, "environ").split(b"\0")]
        parents = {int(_read(pid, "stat").rpartition(b")")[2].split()[1]) for pid in running}
        steps = [pid for pid in parents if _read(pid, "cmdline").startswith(b"slurmstepd")]
        self.cut_off(node)  # first those that would report an end
        for pid in (*steps, *running):
            _kill(pid, signal.SIGKILL)

    def states(self) -> dict[str, str]:
        """Give each node's state, such as idle, mixed or down."""
        listed = self.command("sinfo", "--Node", "--noheader", "--format=%N %T", check=False)
        return {name: state.rstrip("*") for name, state in (line.split() for line in listed.splitlines())}

    def command(self, *command: str, check: bool = True, **variables: str) -> str:
        """Run a command in the cluster, such as sinfo, with further environment variables; return what it prints."""
        done = subprocess.run(
            command, env=self.environment | variables, capture_output=True, text=True, timeout=90, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def logs(self) -> str:
        """Give the ends of the daemons' logs."""
        return "\n".join(f"--- {path.name}\n{tail(path)}" for path in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        """Kill everything that was started in this cluster, and remove its folder."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._processes():
                _kill(pid, number)
            end = time.monotonic() + 5
            while self._processes() and time.monotonic() < end:
                for daemon in self._daemons:
                    daemon.poll()
                time.sleep(0.1)
        for daemon in self._daemons:
            daemon.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _processes(self) -> list[int]:
        """List the processes of this cluster: daemons, steps, and what runs in them."""
        mark = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        pids = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
        return [pid for pid in pids if pid != os.getpid() and mark in _read(pid, "environ").split(b"\0")]


def tail(path: Path, lines: int = 30) -> str:
    """Give the last lines of a file, or say that there is none."""
    if not path.is_file():
        return f"(no {path.name})"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""


def _kill(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    if sys.argv[1:] == ["install"]:
        install()
    elif sys.argv[1:2] == ["run"] and len(sys.argv) > 2:
        reason = missing()
        if reason:
            sys.exit(reason)
        with Cluster() as cluster, suppress(KeyboardInterrupt):
            code = subprocess.run(sys.argv[2:], env=cluster.environment, check=False).returncode
            sys.exit(code)
    else:
        sys.exit(__doc__)
