"""What the checks share that move a guest with a network card: the network, who talks with the guest, what its cards say."""
import hashlib, json, os, random, shlex, socket, subprocess, sys, threading, time

from guests import MIB, Failure

ADDRESS = "52:54:00:12:34:56"
HOST = "10.9.0.1"


def commands(*lines):
    for line in lines:
        subprocess.run(line.split(), check=True)


def make_bridge():
    """What the TAP devices of all places hang on, and the host."""
    # Without an address of its own it has one of its devices', and another once that has gone.
    commands("ip link add bridge address 02:00:00:00:00:01 type bridge forward_delay 0 stp_state 0",
             f"ip addr add {HOST}/24 dev bridge", "ip link set bridge up")


def add_tap(name):
    commands(f"ip tuntap add dev {name} mode tap vnet_hdr", f"ip link set {name} up master bridge")


class Talk(threading.Thread):
    """The host's end of one connection: all bytes in a sum, and when they came or went."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.listener = socket.create_server((HOST, port))
        self.sum, self.count, self.marks, self.stopped = hashlib.sha256(), 0, [], threading.Event()
        self.start()

    def run(self):
        self.peer, _ = self.listener.accept()
        try:
            self.carry()
        except OSError as error:
            print(f"{os.path.basename(sys.argv[0])}: connection: {error}", file=sys.stderr)
        self.peer.close()

    def note(self, data):
        self.sum.update(data)
        self.count += len(data)
        self.marks.append((time.monotonic(), len(data)))

    def rate(self, start, end):
        return sum(size for at, size in self.marks if start <= at < end) / (end - start) / 1e6

    def pause(self, start, end):
        """The longest between two pieces."""
        times = [at for at, _ in self.marks if start <= at < end]
        return max((after - before for before, after in zip(times, times[1:])), default=end - start)


class Giver(Talk):
    def __init__(self, port, interval=0.02):
        self.interval = interval
        super().__init__(port)

    def carry(self):
        content = random.Random(1).randbytes(4 * MIB)
        while not self.stopped.is_set():
            at = self.count % (4 * MIB - 65536)
            data = content[at:at + 65536]
            self.peer.sendall(data)
            self.note(data)
            time.sleep(self.interval)


class Taker(Talk):
    def carry(self):
        while data := self.peer.recv(65536):
            self.note(data)


class Packets(threading.Thread):
    """Numbered packets, one in twenty milliseconds. The guest answers each with a number of its own and the one that it answers,
    so that the numbers tell which way a packet was lost that has no answer."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HOST, port))
        # Of each answer: the guest's number, ours, and when it came.
        self.sent, self.answers, self.wrong, self.failure = 0, [], None, None
        self.start()

    def run(self):
        # The guest speaks first, so that it is known where it is.
        text, guest = self.socket.recvfrom(64)
        self.note(text)
        threading.Thread(target=self.send, args=[guest], daemon=True).start()
        while True:
            self.note(self.socket.recv(64))

    def send(self, guest):
        try:
            while True:
                self.sent += 1
                self.socket.sendto(b"%d\n" % self.sent, guest)
                time.sleep(0.02)
        except OSError as error:
            self.failure = error

    def note(self, text):
        own, ours = (int(word) for word in text.split())
        if self.answers and (own <= self.answers[-1][0] or ours <= self.answers[-1][1]):
            self.wrong = self.wrong or f"{own} {ours} came after {self.answers[-1][0]} {self.answers[-1][1]}"
        self.answers.append((own, ours, time.monotonic()))

    def answered(self, number):
        self.check()
        return bool(self.answers) and self.answers[-1][1] > number

    def check(self):
        if self.failure:
            raise Failure(f"packets can no longer be sent: {self.failure}")
        if self.wrong:
            raise Failure(f"a packet came twice, or late: {self.wrong}")

    def lost(self, start, end):
        """How many did not come to the guest, and how many not from it, of those sent after `start` and up to `end`; and the
        longest time without any. Some before and some later must have been answered."""
        self.check()
        before = max((answer for answer in self.answers if answer[1] <= start), default=None)
        within = [answer for answer in self.answers if start < answer[1] <= end]
        after = min((answer for answer in self.answers if answer[1] > end), default=None)
        if not before or not after:
            raise Failure(f"no packet {'after' if before else 'before'} those from {start + 1} to {end} was answered")
        leaving = after[0] - before[0] - 1 - len(within)
        times = [moment for _, _, moment in (before, *within, after)]
        return end - start - len(within) - leaving, leaving, max(later - earlier for earlier, later in zip(times, times[1:]))


class Announcements:
    """What tells the host where a guest is now, in RARP."""

    def __init__(self):
        kind = 0x8035
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
        # A bridge's ports keep nothing of what it takes from them.
        self.socket.bind(("bridge", kind))
        self.socket.setblocking(False)

    def count(self):
        """Those since it was asked last."""
        count = 0
        while True:
            try:
                frame = self.socket.recv(2048)
            except BlockingIOError:
                return count
            count += frame[6:12] == bytes.fromhex(ADDRESS.replace(":", ""))


def card(program, control):
    """What `virtiokit net` knows of its card."""
    found = subprocess.run([*shlex.split(program), "ctl", "--control", control, "info", "net", "--json"],
                           check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout)["cards"][0]


def show_cards(cards):
    """A line for each, which has a name. The guest is the same to its neighbours at all of them."""
    print(f"{'':20}{'MAC':>20}{'address':>14}{'received':>12}{'sent':>12}{'lost':>8}")
    for name, card in cards:
        lost = sum(card["drops"].values()) + sum(card["port_drops"].values())
        address = next(iter(card["addresses"]), "-")
        print(f"{name:20}{card['mac']:>20}{address:>14}{card['received_packets']:12}{card['sent_packets']:12}{lost:8}")
    if any(card["mac"] != ADDRESS for _, card in cards):
        raise Failure("the card has another address")
