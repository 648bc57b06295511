"""A QEMU whose processor halts and whose virtio devices this script drives itself through QEMU's test protocol: what a guest's
driver would write, and nothing else, so that its memory stays small and its rings are where they are said to be."""
import os, struct, subprocess

from guests import QEMU, Failure, Monitor, connected, wait

BLOCK, NET, BALLOON = 2, 1, 5
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8
INDIRECT, EVENT_INDEX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
NEXT, WRITE = 1, 2


class Guest:
    """A machine and its memory. `machine`: q35 or microvm."""

    def __init__(self, folder, name, machine, options, incoming=None):
        self.path = os.path.join(folder, name)
        self.is_mmio = machine.startswith("microvm")
        with open(self.path + ".rom", "wb") as rom:
            # A processor that halts where it starts: hlt, and back to it.
            rom.write(bytes(65520) + bytes.fromhex("f4ebfd") + bytes(13))
        if self.is_mmio:
            machine += ",x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=off"
            options = ["-global", "virtio-mmio.force-legacy=false", *options]
        command = [
            *QEMU, "-machine", machine + ",accel=tcg", "-m", "1M", "-nodefaults", "-no-user-config",
            "-display", "none", "-vga", "none", "-bios", self.path + ".rom",
            "-qmp", f"unix:{self.path}.qmp,server=on,wait=off", "-qtest", f"unix:{self.path}.qtest,server=on,wait=off",
            "-qtest-log", "none", *options]
        if incoming:
            command += ["-incoming", incoming]
        self.qemu = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command])
        self.monitor = Monitor(self.path + ".qmp")
        self.lines = wait(20, "QEMU", lambda: connected(self.path + ".qtest")).makefile("rw")

    def __call__(self, command):
        self.lines.write(command + "\n")
        self.lines.flush()
        for line in self.lines:
            words = line.split()
            if words[0] == "OK":
                return words[1] if len(words) > 1 else None
            if words[0] != "IRQ":
                raise Failure(f"{command}: {line}")
        raise Failure(f"QEMU went away on {command}")

    def read(self, address, count):
        return bytes.fromhex(self(f"read {address:#x} {count:#x}")[2:])

    def write(self, address, content):
        self(f"write {address:#x} {len(content):#x} 0x{content.hex()}")

    def number(self, letter, address):
        return int(self(f"read{letter} {address:#x}"), 16)

    def set(self, letter, address, value):
        self(f"write{letter} {address:#x} {value:#x}")

    def config(self, slot, register):
        self(f"outl 0xcf8 {0x80000000 | slot << 11 | register & ~3:#x}")
        return int(self("inl 0xcfc"), 16) >> 8 * (register & 3)

    def set_config(self, slot, register, value):
        self(f"outl 0xcf8 {0x80000000 | slot << 11 | register:#x}")
        self(f"outl 0xcfc {value:#x}")

    def knows(self, capability):
        return any(known["capability"] == capability for known in self.monitor("query-migrate-capabilities"))

    def save(self, path, capabilities=()):
        """The machine, stopped, in a file."""
        self.monitor("stop")
        self.monitor("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in capabilities])
        self.monitor("migrate", uri=f"file:{path}" if "mapped-ram" in capabilities else f"exec:cat > {path}")
        status = lambda: self.monitor("query-migrate").get("status")
        wait(30, "the stream", lambda: status() in ("completed", "failed"))
        if status() != "completed":
            raise Failure("QEMU did not write the stream")

    def stop(self):
        self.qemu.kill()
        self.qemu.wait()


class Device:
    """A virtio device of a guest, by its number in virtio, reached as its machine reaches it."""

    def __init__(self, guest, kind):
        self.guest, self.queues = guest, {}
        self.base = (self.find_mmio if guest.is_mmio else self.find_pci)(kind)

    # Where the registers are, after the specification's 4.1 and 4.2.

    def find_mmio(self, kind):
        for place in range(24):
            base = 0xFEB00000 + 512 * place
            if self.guest.number("l", base + 8) == kind:
                return base
        raise Failure(f"no virtio device {kind}")

    def find_pci(self, kind):
        guest = self.guest
        slot = next(slot for slot in range(1, 31) if guest.config(slot, 0) == (0x1040 + kind) << 16 | 0x1AF4)
        self.slot, self.place = slot, {}
        window = 0xC0000000 + slot * 0x100000
        guest.set_config(slot, 0x20, window)
        guest.set_config(slot, 0x24, 0)
        guest.set_config(slot, 0x14, window + 0x80000)
        guest.set_config(slot, 4, 6)
        at = guest.config(slot, 0x34) & 0xFF
        while at:
            identity = guest.config(slot, at) & 0xFF
            if identity == 0x09:
                self.place[guest.config(slot, at + 3) & 0xFF] = guest.config(slot, at + 8)
                if guest.config(slot, at + 3) & 0xFF == 2:
                    self.multiplier = guest.config(slot, at + 16)
            elif identity == 0x11:
                self.vectors = [window + 0x80000 + 16 * n for n in range((guest.config(slot, at + 2) & 0x7FF) + 1)]
                self.set_interrupts(0x40)
                guest.set_config(slot, at & ~3, guest.config(slot, at) & 0x7FFFFFFF | 0x80000000)
            at = guest.config(slot, at + 1) & 0xFF
        return window + self.place[1]

    @property
    def config_base(self):
        return self.base + 0x100 if self.guest.is_mmio else self.base - self.place[1] + self.place[4]

    def start(self, features, queues):
        """`queues`: their sizes by index; each gets memory of its own."""
        self.features = features
        (self.start_mmio if self.guest.is_mmio else self.start_pci)(features, queues)

    def start_pci(self, features, queues):
        guest, base = self.guest, self.base
        for status in (0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER):
            guest.set("b", base + 20, status)
        for half in range(2):
            guest.set("l", base + 8, half)
            guest.set("l", base + 12, features >> 32 * half & 0xFFFFFFFF)
        guest.set("b", base + 20, 11)
        if hasattr(self, "vectors"):
            guest.set("w", base + 16, 0)
        for index, (size, place) in queues.items():
            ring = self.queues[index] = Ring(self, index, size, place)
            guest.set("w", base + 22, index)
            guest.set("w", base + 24, size)
            if hasattr(self, "vectors"):
                guest.set("w", base + 26, 1 + index)
            for register, part in zip((32, 40, 48), ring.parts):
                guest.set("l", base + register, part)
                guest.set("l", base + register + 4, 0)
            guest.set("w", base + 28, 1)
        guest.set("b", base + 20, 15)

    def start_mmio(self, features, queues):
        guest, base = self.guest, self.base
        for status in (0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER):
            guest.set("l", base + 0x70, status)
        for half in range(2):
            guest.set("l", base + 0x24, half)
            guest.set("l", base + 0x20, features >> 32 * half & 0xFFFFFFFF)
        guest.set("l", base + 0x70, 11)
        for index, (size, place) in queues.items():
            ring = self.queues[index] = Ring(self, index, size, place)
            guest.set("l", base + 0x30, index)
            guest.set("l", base + 0x38, size)
            for register, part in zip((0x80, 0x90, 0xA0), ring.parts):
                guest.set("l", base + register, part)
                guest.set("l", base + register + 4, 0)
            guest.set("l", base + 0x44, 1)
        guest.set("l", base + 0x70, 15)

    def set_interrupts(self, first):
        """Over PCI: the processor's interrupt of the first vector, whom the others' follow."""
        for n, entry in enumerate(self.vectors):
            self.guest.write(entry, struct.pack("<QII", 0xFEE00000, first + n, 0))

    def kick(self, index):
        if self.guest.is_mmio:
            return self.guest.set("l", self.base + 0x50, index)
        self.guest.set("w", self.base - self.place[1] + self.place[2] + index * self.multiplier, index)


class Ring:
    """The driver's side of a split ring of which nothing is ever given back: it is as long as its queue."""

    def __init__(self, device, index, size, place):
        self.guest, self.device, self.index, self.size = device.guest, device, index, size
        self.parts = place, place + 16 * size, place + 16 * size + 8 + 2 * size & ~3
        self.next, self.available = 0, 0

    def offer(self, *buffers):
        """Makes a chain of (address, length, is writable) available, which the device is not told of."""
        head = self.next
        for number, (address, length, writable) in enumerate(buffers):
            last = number + 1 == len(buffers)
            flags = (WRITE if writable else 0) | (0 if last else NEXT)
            self.guest.write(self.parts[0] + 16 * self.next, struct.pack("<QIHH", address, length, flags, 0 if last else self.next + 1))
            self.next += 1
        self.guest.write(self.parts[1] + 4 + 2 * (self.available % self.size), struct.pack("<H", head))
        self.available += 1
        self.guest.write(self.parts[1] + 2, struct.pack("<H", self.available))
        return head

    def kick(self):
        self.device.kick(self.index)

    @property
    def used(self):
        """The heads given back, with their lengths, in order."""
        count = struct.unpack("<H", self.guest.read(self.parts[2] + 2, 2))[0]
        entries = self.guest.read(self.parts[2] + 4, 8 * self.size)
        return [struct.unpack_from("<II", entries, 8 * (n % self.size)) for n in range(count)]

    def wait(self, count):
        wait(10, f"{count} used buffers", lambda: len(self.used) >= count)
