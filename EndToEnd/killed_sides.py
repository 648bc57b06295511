"""killed_sides.py PROGRAM FOLDER: moves a simulated guest between host processes of balloon-demo over a wire that kills or
stops one of them at a chosen frame."""
import itertools, json, os, re, signal, socket, struct, subprocess, sys, time
from wire import Wire, cut

PROGRAM, FOLDER = sys.argv[1:]
MIB = 1 << 20
SECONDS = 20
GONE = "the peer closed the connection|one of the connections was closed|Connection reset|Broken pipe"
UNKNOWN = "did not confirm .*must not run here"
paths = (f"{FOLDER}/wire-{number}" for number in itertools.count())


class Failure(Exception):
    pass


class Host:
    """A process that hosts a guest."""

    all = []

    def __init__(self):
        Host.all.append(self)
        self.peer, theirs = socket.socketpair()
        self.peer.settimeout(SECONDS)
        self.process = subprocess.Popen([PROGRAM, "host-a-guest"], stdin=theirs, start_new_session=True)
        theirs.close()

    def begin(self, request):
        body = json.dumps(request).encode()
        self.peer.sendall(struct.pack("<I", len(body)) + body)

    def finish(self):
        """The next reply that is no progress: what it is, and what it says."""
        while True:
            (kind, content), = self.message().items()
            if kind != "progress":
                return kind, content.get("_0")

    def message(self):
        size = self.peer.recv(4, socket.MSG_WAITALL)
        if len(size) < 4:
            raise Failure("a host has ended that was not killed")
        return json.loads(self.peer.recv(*struct.unpack("<I", size), socket.MSG_WAITALL))

    def ask(self, request):
        self.begin(request)
        return self.finish()

    def boot(self):
        guest = {"memoryByteCount": 32 * MIB, "seed": 5, "workload": "dirtying", "pins": False}
        check_guest(self.ask({"boot": guest}))
        return self

    def listen(self, path):
        self.begin({"receive": {"socketPath": path, "pins": False}})
        expect(self.finish()[0] == "listening", "it listens")

    def signal(self, number):
        self.process.send_signal(number)

    def await_stop(self):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with open(f"/proc/{self.process.pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "T":
                    return
            time.sleep(0.001)
        raise Failure("a host does not stop")

    def end(self):
        self.process.kill()
        self.process.wait()
        self.peer.close()


def expect(is_so, what):
    if not is_so:
        raise Failure(f"not so: {what}")


def check_guest(reply):
    kind, view = reply
    expect(kind == "done", f"a guest is here: {reply}")
    expect(view.get("fault") is None and view["checkedPages"] > 1000, f"all of its data is right: {view}")


def check_has_guest(host):
    """The guest runs here, works, and finds what it has written."""
    check_guest(host.ask({"fill": {}}))


def check_has_none(host):
    reply = host.ask({"fill": {}})
    expect(reply[0] == "failed" and "no guest here" in reply[1], f"no guest is here: {reply}")


def check_failed(reply, reason):
    expect(reply[0] == "failed" and re.search(reason, reply[1]), f"it failed for '{reason}': {reply}")


class Move:
    """A move under way, at one frame of which something happens to one of its sides."""

    def __init__(self, source, destination, way="sent"):
        self.source, self.destination, self.way = source, destination, way

    def run(self, kind=None, number=0, act=None, meanwhile=None):
        path, onward = next(paths), next(paths)
        self.destination.listen(onward)
        self.wire = Wire(path, onward, kind, number, act)
        self.source.begin({"send": {"socketPath": path, "_1": {self.way: {}}}})
        if kind:
            expect(self.wire.has_acted.wait(SECONDS), f"{kind} {number} comes")
        if meanwhile:
            meanwhile(self)
        return self

    def end(self):
        self.wire.thread.join(SECONDS)
        expect(not self.wire.thread.is_alive() and not self.wire.failure, f"the wire ends: {self.wire.failure}")


def killing(host, is_passed_on=False):
    """Kills a side at a frame, which goes on when that side is dead, or never."""
    def act(wire, pass_on):
        host.signal(signal.SIGKILL)
        host.process.wait()
        if is_passed_on:
            pass_on()
        return is_passed_on
    return act


def stopping(host):
    def act(wire, pass_on):
        host.signal(signal.SIGSTOP)
        pass_on()
        return True
    return act


def stopping_and_cutting(host):
    """Stops a destination, whose source is told at once that it is gone."""
    def act(wire, pass_on):
        host.signal(signal.SIGSTOP)
        host.await_stop()
        pass_on()
        cut(wire.source)
        return True
    return act


# What is done before the guest is given away leaves it at the source: kinds of frame and their numbers.
BEFORE = [("pages", 40), ("pass", 1), ("state", 0), ("complete", 0), ("ready", 0)]


def check_no_fault(source, destination, way):
    Move(source, destination, way).run().end()
    expect(source.finish()[0] == "done", "the source has done its part")
    check_guest(destination.finish())
    check_has_none(source)


def check_destination_killed(source, way, before):
    """The source goes on with its guest, and another destination gets it."""
    for kind, number in before:
        destination = Host()
        Move(source, destination, way).run(kind, number, killing(destination)).end()
        check_failed(source.finish(), GONE)
        check_has_guest(source)
        destination.end()
    destination = Host()
    check_no_fault(source, destination, way)
    check_has_guest(destination)
    return destination


def check_destination_killed_late(kind, is_passed_on):
    """Nobody can tell the source whether the destination ran the guest."""
    source, destination = Host().boot(), Host()
    Move(source, destination).run(kind, 0, killing(destination, is_passed_on)).end()
    check_failed(source.finish(), UNKNOWN)
    check_has_none(source)
    for host in (source, destination):
        host.end()


def check_source_killed(way, before):
    """The destination never has part of a guest, and can take another."""
    destination = Host()
    for kind, number in before:
        source = Host().boot()
        Move(source, destination, way).run(kind, number, killing(source)).end()
        check_failed(destination.finish(), GONE)
        check_has_none(destination)
        source.end()
    source = Host().boot()
    check_no_fault(source, destination, way)
    for host in (source, destination):
        host.end()


def check_source_killed_late(kind, way):
    """Who has heard that the guest is its own goes on with all of it."""
    source, destination = Host().boot(), Host()
    Move(source, destination, way).run(kind, 0, killing(source, is_passed_on=kind == "commit")).end()
    check_guest(destination.finish())
    check_has_guest(destination)
    for host in (source, destination):
        host.end()


def check_stopped(source, kind, number, is_source):
    """Whoever stands still for a while and goes on changes nothing."""
    destination = Host()
    stopped = source if is_source else destination

    def go_on(move):
        stopped.await_stop()
        if not is_source:
            move.wire.is_stalled.clear()
            expect(move.wire.is_stalled.wait(SECONDS), "nothing more goes")
        stopped.signal(signal.SIGCONT)

    Move(source, destination).run(kind, number, stopping(stopped), go_on).end()
    expect(source.finish()[0] == "done", "the source has done its part")
    check_guest(destination.finish())
    check_has_none(source)
    source.end()
    return destination


def check_cut_while_stopped(source, kind, is_given):
    """A destination that stood still while its source gave it up has the guest only if it was given away."""
    destination = Host()
    Move(source, destination).run(kind, 0, stopping_and_cutting(destination))
    check_failed(source.finish(), UNKNOWN if is_given else GONE)
    (check_has_none if is_given else check_has_guest)(source)
    destination.signal(signal.SIGCONT)
    if is_given:
        check_guest(destination.finish())
        check_has_guest(destination)
    else:
        check_failed(destination.finish(), GONE)
        check_has_none(destination)
    destination.end()


def main():
    start = time.monotonic()
    source = Host().boot()
    for way, before in (("sent", BEFORE), ("handedOver", [("files", 0), ("accept", 0), ("state", 0), ("ready", 0)])):
        source = check_destination_killed(source, way, before)
        check_source_killed(way, before)
        for kind in ("commit", "committed"):
            check_source_killed_late(kind, way)
        print(f"killed, {way}: {time.monotonic() - start:.1f} s")
    for kind, is_passed_on in (("ready", True), ("commit", False), ("committed", False)):
        check_destination_killed_late(kind, is_passed_on)
    for kind, number, is_source in (("pages", 40, False), ("pass", 1, False), ("pages", 40, True), ("state", 0, True)):
        source = check_stopped(source, kind, number, is_source)
    for kind, is_given in (("complete", False), ("commit", True)):
        check_cut_while_stopped(source, kind, is_given)
    print(f"all: {time.monotonic() - start:.1f} s")


try:
    main()
finally:
    # One that stands still does not notice that nobody asks it any more.
    for host in Host.all:
        host.end()
