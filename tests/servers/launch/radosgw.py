"""radosgw: Ceph's S3 gateway, a production server, on a throw-away cluster of one monitor and one OSD in memory.

Everything listens on loopback and nothing outlives the run. Inside the cluster there is no cephx: the S3 signatures are
what the tests are about.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

from .process import HOST, Child, RunFolder, StartError, free_port, is_listening
from .server import Keys, Server

OWNER = Keys("testing", "testingsecret")
OTHER = Keys("other", "othersecret")
TENANT = ("acme_1", Keys("tenant", "tenantsecret"))
TOOL_SECONDS = 60.0
DAEMON_SECONDS = 60.0

#: Storage classes that a fresh radosgw does not know.
ARCHIVE_CLASSES = ("GLACIER", "DEEP_ARCHIVE")

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v2:{host}:{mon_port}
mon initial members = a
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
public addr = {host}
cluster addr = {host}
ms bind ipv6 = false

# Without cephx the messenger's secure mode has no key to use, and clients hang unless they are told to use crc.
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms client mode = crc
ms cluster mode = crc
ms service mode = crc

# One OSD, so one copy, and few placement groups.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000

run dir = {folder}
crash dir = {folder}
# A socket's path may have 107 bytes, and a build folder can be deeper than that.
admin socket =
pid file =
log file =
log to stderr = true
err to stderr = true
mon cluster log file =
mon cluster log to stderr = false

[mon]
# A map change waits for others to join it, a second by default; every new pool is one, and radosgw makes ten.
paxos propose interval = 0.05
paxos min wait = 0.01
mon data = {folder}/mon
# The disk's fullness is no business of a cluster in memory.
mon data avail crit = 1
mon data avail warn = 2

[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824

[client.rgw]
rgw data = {folder}/rgw
# Without tcp_nodelay every answer with a body waits 40 ms for the client's delayed acknowledgement.
rgw frontends = beast endpoint={host}:{rgw_port} tcp_nodelay=1
rgw thread pool size = 32
rgw override bucket index max shards = 1
rgw dynamic resharding = false
rgw enable ops log = false
rgw enable usage log = false
rgw dns name = localhost
"""


def start(folder: RunFolder) -> Server:
    """Starts the cluster and the gateway on free loopback ports."""
    cluster = _Cluster(folder)
    cluster.start_monitor()
    cluster.start_osd()
    cluster.make_users()
    cluster.add_archive_classes()
    cluster.start_gateway()
    return Server(
        name="radosgw",
        endpoint=f"http://{HOST}:{cluster.rgw_port}",
        keys=OWNER,
        other=OTHER,
        other_principal="arn:aws:iam:::user/other",
        tenant=TENANT,
    )


class _Cluster:
    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.fsid = str(uuid.uuid4())
        self.mon_port = free_port()
        self.rgw_port = free_port()
        self.configuration = folder.path / "ceph.conf"
        for part in ("mon", "osd", "rgw"):
            (folder.path / part).mkdir()
        self.configuration.write_text(
            CONFIGURATION.format(
                fsid=self.fsid, host=HOST, mon_port=self.mon_port, rgw_port=self.rgw_port, folder=folder.path
            )
        )

    def start_monitor(self) -> None:
        monmap = self.folder.path / "monmap"
        address = f"[v2:{HOST}:{self.mon_port}]"
        self.tool("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", address, monmap)
        self.tool("ceph-mon", "-c", self.configuration, "--mkfs", "-i", "a", "--monmap", monmap)
        monitor = self.daemon("ceph-mon", "-i", "a")
        monitor.wait_until(lambda: is_listening(self.mon_port), "listening", DAEMON_SECONDS)

    def start_osd(self) -> None:
        osd_uuid = str(uuid.uuid4())
        self.ceph("osd", "new", osd_uuid, "0")
        self.tool("ceph-osd", "-c", self.configuration, "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
        osd = self.daemon("ceph-osd", "-i", "0")
        osd.wait_until(self.osd_is_up, "up", DAEMON_SECONDS)

    def osd_is_up(self) -> bool:
        return int(json.loads(self.ceph("osd", "stat", "-f", "json"))["num_up_osds"]) == 1

    def make_users(self) -> None:
        # The first call also makes the default zone, which has to exist before classes are added to it.
        for name, keys, tenant in (("testing", OWNER, ""), ("other", OTHER, ""), ("user", TENANT[1], TENANT[0])):
            self.admin(
                "user", "create", f"--tenant={tenant}", f"--uid={name}", f"--display-name={name}",
                f"--access-key={keys.access}", f"--secret-key={keys.secret}",
            )  # fmt: skip

    def add_archive_classes(self) -> None:
        for storage_class in ARCHIVE_CLASSES:
            place = ("--placement-id=default-placement", f"--storage-class={storage_class}")
            self.admin("zonegroup", "placement", "add", "--rgw-zonegroup=default", *place)
            self.admin("zone", "placement", "add", "--rgw-zone=default", *place, "--data-pool=default.rgw.buckets.data")

    def start_gateway(self) -> None:
        gateway = self.daemon("radosgw", "-n", "client.rgw")
        gateway.wait_until(lambda: is_listening(self.rgw_port), "listening", DAEMON_SECONDS)

    def daemon(self, program: str, *arguments: str) -> Child:
        """Starts one in the foreground (`-f`), so that its pid is the child's own."""
        return self.folder.spawn(program, [program, "-f", "-c", self.configuration, *arguments])

    def ceph(self, *arguments: str) -> str:
        return self.tool("ceph", "-c", self.configuration, "--connect-timeout", str(int(TOOL_SECONDS)), *arguments)

    def admin(self, *arguments: str) -> str:
        return self.tool("radosgw-admin", "-c", self.configuration, "-n", "client.rgw", *arguments)

    def tool(self, *command: str | Path) -> str:
        """Runs one of Ceph's tools to its end and returns what it printed."""
        for daemon in self.folder.children:
            daemon.check_alive()
        log = self.folder.path / "tools.log"
        try:
            done = subprocess.run(
                [str(part) for part in command],
                cwd=self.folder.path,
                env=self.folder.environment({}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TOOL_SECONDS,
                check=True,
                text=True,
            )
        except FileNotFoundError as error:
            raise StartError(f"{command[0]} is not installed: run tests/servers/install.sh") from error
        except subprocess.SubprocessError as error:
            raise StartError(self.explain(command, error)) from error
        with log.open("a") as output:
            output.write(f"$ {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return done.stdout

    def explain(self, command: tuple[str | Path, ...], error: subprocess.SubprocessError) -> str:
        """What a failed tool wrote, and what its daemons wrote."""
        output = getattr(error, "stderr", None) or b""
        text = output if isinstance(output, str) else output.decode(errors="replace")
        parts = [f"radosgw: {' '.join(map(str, command))}: {error}", text]
        parts += [f"the end of {daemon.log}:\n{daemon.tail()}" for daemon in self.folder.children]
        return "\n".join(parts)
