"""A wire between the two sides of a migration over UNIX sockets, which does something at a chosen frame."""
import os, select, socket, struct, threading, time

FRAMES = {
    "accept": 3, "pages": 6, "state": 7, "complete": 8, "ready": 11, "commit": 12, "committed": 13, "pass": 14, "files": 25,
}
OPENING_BYTES, HEADER_BYTES = 12, 32
# Slow enough that a guest which writes all the time is sent in several passes.
BYTES_PER_SECOND = 96 << 20


def receive(peer, count):
    """Exactly so many bytes and the descriptors that came with them; fewer bytes at the end of the stream."""
    data, descriptors = b"", []
    while len(data) < count:
        part, passed, _, _ = socket.recv_fds(peer, count - len(data), 8)
        if not part:
            break
        data += part
        descriptors += passed
    return data, descriptors


def cut(peer, how=socket.SHUT_RDWR):
    try:
        peer.shutdown(how)
    except OSError:
        pass  # It is cut already.


class Wire:
    """Listens at one path and goes on to another. When it has the frame of a kind with a number, from 0, whole, it calls
    `act(wire, pass_on)`. That calls `pass_on()` if the frame is to go on, and returns whether others may follow it."""

    def __init__(self, path, onward, kind=None, number=0, act=None):
        self.onward, self.act = onward, act
        self.kind, self.left = FRAMES.get(kind), number
        self.has_acted, self.is_stalled = threading.Event(), threading.Event()
        self.failure = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.source, _ = self.listener.accept()
        self.destination = socket.socket(socket.AF_UNIX)
        self.destination.connect(self.onward)
        back = threading.Thread(target=self.carry, args=(self.destination, self.source), daemon=True)
        back.start()
        self.carry(self.source, self.destination)
        back.join()
        self.listener.close()
        self.source.close()
        self.destination.close()

    def carry(self, giver, taker):
        try:
            self.pass_on(receive(giver, OPENING_BYTES), taker)
            while (header := receive(giver, HEADER_BYTES))[0]:
                payload, data = struct.unpack_from("<II", header[0], 8)
                parts = [header, receive(giver, payload + data)]
                if not self.is_chosen(header[0]):
                    self.pass_on(*parts, taker)
                elif not self.do(lambda: self.pass_on(*parts, taker)):
                    cut(giver)
                    break
        except OSError:
            cut(giver)  # Whoever was to get it is gone, which the other side has to notice.
        except Exception as failure:
            self.failure = failure
            cut(giver)
        cut(taker, socket.SHUT_WR)

    def do(self, pass_on):
        self.has_acted.set()
        return self.act(self, pass_on)

    def is_chosen(self, header):
        if self.has_acted.is_set() or struct.unpack_from("<H", header)[0] != self.kind:
            return False
        self.left -= 1
        return self.left < 0

    def pass_on(self, *parts_and_taker):
        *parts, taker = parts_and_taker
        for data, descriptors in parts:
            if descriptors:
                data = data[socket.send_fds(taker, [data], descriptors):]
                for number in descriptors:
                    os.close(number)
            self.send(data, taker)

    def send(self, data, taker):
        time.sleep(len(data) / BYTES_PER_SECOND)
        while data:
            if not select.select([], [taker], [], 0.2)[1]:
                self.is_stalled.set()
                continue
            data = data[taker.send(data, socket.MSG_DONTWAIT):]
