"""What the checks of migration share: QEMU guests on an emulated processor, each with a back-end process of its own."""
import glob, json, os, re, shlex, shutil, signal, socket, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
# Another QEMU than the one installed, with options if need be.
QEMU = shlex.split(os.environ.get("QEMU", "qemu-system-x86_64"))
# No multiple of 256 KiB, on purpose. Before QEMU 9.0 the migration of a guest on an emulated processor loses dirty pages
# where memory can be scanned in whole words of the dirty bitmap, with any device; an odd size avoids that path.
MEMORY = "196616K"


class Failure(Exception):
    pass


class GuestIsWrong(Failure):
    """The guest itself found data that are not right."""


def wait(seconds, what, ready):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := ready():
            return value
        time.sleep(0.02)
    raise Failure(f"waited {seconds} s in vain for {what}")


def connected(path):
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.connect(path)
        return peer
    except OSError:
        peer.close()


def start(command, **options):
    # A group of its own, and none outlives this check.
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], start_new_session=True, **options)


class Monitor:
    """QEMU's control socket."""

    def __init__(self, path):
        self.lines = wait(20, "QEMU", lambda: connected(path)).makefile("rw")
        self.lines.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        for line in self.lines:
            answer = json.loads(line)
            if "error" in answer:
                raise Failure(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise Failure(f"QEMU went away on {command}")


class Machine:
    """One QEMU and what serves it."""

    def __init__(self, folder, name):
        self.folder, self.path = folder, os.path.join(folder, name)
        self.processes, self.backends = [], []

    def boot(self, kernel, options, incoming=None, memory_file=None):
        """Starts QEMU with the kernel of a folder. `options`: what a device takes of them."""
        backend = f"file,mem-path={memory_file}" if memory_file else "memfd"
        os.mkfifo(self.path + ".keys")
        self.keys = open(self.path + ".keys", "r+b", buffering=0)
        command = [
            *QEMU, "-machine", "q35,accel=tcg,memory-backend=ram", "-cpu", "max", "-smp", "1", "-m", MEMORY,
            "-object", f"memory-backend-{backend},id=ram,size={MEMORY},share=on", "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-serial", "stdio", "-qmp", f"unix:{self.path}.qmp,server=on,wait=off",
            "-kernel", glob.glob(kernel + "/boot/vmlinuz-*")[0], "-initrd", os.path.join(self.folder, "initrd"),
            # Else the guest zeroes each page before the device writes to it, and so marks it dirty itself.
            "-append", "console=ttyS0 panic=-1 quiet init_on_alloc=0", *options]
        if incoming:
            command += ["-incoming", incoming]
        self.qemu = self.run(command, stdin=self.keys, stdout=open(self.path + ".console", "wb"))
        self.monitor = Monitor(self.path + ".qmp")

    def run(self, command, **options):
        process = start(command, **options)
        self.processes.append(process)
        return process

    def serve(self, command, device="", **names):
        """Starts a back-end, in whose command @SOCKET@, @CONTROL@ and `names` are filled in. `device` tells several apart."""
        self.socket, self.control = self.path + device + ".socket", self.path + device + ".control"
        names = {"SOCKET": self.socket, "CONTROL": self.control, **names}
        self.backends.append(self.run([re.sub("@([A-Z]+)@", lambda found: names[found[1]], word) for word in shlex.split(command)]))
        wait(10, "the back-end's socket", lambda: os.path.exists(self.socket))

    def console(self):
        with open(self.path + ".console", errors="replace") as file:
            text = file.read().replace("\r", "")
        if "guest-failed" in text:
            raise GuestIsWrong("the guest says: " + " / ".join(re.findall("^(?:guest-failed|cmp:) *(.*)", text, re.M)))
        return text

    def said(self, pattern):
        return re.findall(f"^guest-{pattern}", self.console(), re.M)

    def rounds(self):
        done = self.said(r"round (\d+)")
        return int(done[-1]) if done else -1

    def end_backends(self):
        for backend in self.backends:
            backend.send_signal(signal.SIGTERM)
        for backend in self.backends:
            if status := backend.wait(20):
                raise Failure(f"a back-end ended with status {status}")

    def leave(self):
        """What migrated away must not be needed any more."""
        self.monitor("quit")
        self.qemu.wait(20)
        self.end_backends()

    def say_stop(self):
        """Until it was heard: a serial console may lose what comes while the guest is busy."""
        end = time.monotonic() + 60
        while not self.said("after load"):
            if time.monotonic() > end:
                raise Failure("the guest does not hear its console")
            self.keys.write(b"\nafter load\n")
            time.sleep(0.5)

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def state(side):
    """Of the migration away from there."""
    status = side.monitor("query-migrate")["status"]
    return "active" if status in ("setup", "active", "postcopy-active", "device", "pre-switchover") else status


def our_program():
    build = ["swift", "build", "--package-path", os.path.dirname(HERE), "-c", "release"]
    subprocess.run([*build, "--product", "virtiokit"], check=True, stdout=subprocess.DEVNULL)
    folder = subprocess.run([*build, "--show-bin-path"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return shlex.quote(folder + "/virtiokit")


def needed(programs):
    """The folder of the guest's kernel; ends the check where something is missing. `programs`: each with its package."""
    name = os.path.basename(sys.argv[0])
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for program, package in ((QEMU[0], "qemu-system-x86"), ("busybox", "busybox-static"), ("cpio", "cpio"), ("depmod", "kmod"), *programs):
        if not shutil.which(program):
            print(f"{name}: needs {program}: apt-get install {package}", file=sys.stderr)
            sys.exit(77)
    fetched = subprocess.run([os.path.join(HERE, "fetch-kernel")], stdout=subprocess.PIPE, text=True)
    if fetched.returncode:
        print(f"{name}: needs Debian's kernel", file=sys.stderr)
        sys.exit(77)
    return fetched.stdout.strip()


def choose_qemu(parser):
    """The options of a check that takes --qemu and --newer-qemu, which choose the QEMU of all its machines."""
    parser.add_argument("--qemu", metavar="COMMAND", help="starts another QEMU than the environment's QEMU or qemu-system-x86_64")
    parser.add_argument("--newer-qemu", action="store_true", help="takes the QEMU that EndToEnd/fetch-qemu fetches")
    options = parser.parse_args()
    if options.newer_qemu:
        fetched = subprocess.run([os.path.join(HERE, "fetch-qemu")], stdout=subprocess.PIPE, text=True)
        if fetched.returncode:
            print(f"{parser.prog}: needs a newer QEMU from Debian's mirror", file=sys.stderr)
            sys.exit(77)
        options.qemu = shlex.quote(fetched.stdout.strip())
    if options.qemu:
        QEMU[:] = shlex.split(options.qemu)
    return options


def make_initrd(kernel, folder, *options):
    subprocess.run([os.path.join(HERE, "make-initrd"), "--modules", glob.glob(kernel + "/lib/modules/*")[0], *options,
                    os.path.join(folder, "initrd")], check=True)


def own_network():
    """Goes on in a network of its own, where nobody else's devices and addresses are and from which nothing stays."""
    if os.environ.get("VIRTIOKIT_NETWORK"):
        return subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    command = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if not os.access("/dev/net/tun", os.W_OK) or subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode:
        print(f"{os.path.basename(sys.argv[0])}: needs /dev/net/tun and a network namespace", file=sys.stderr)
        sys.exit(77)
    os.environ["VIRTIOKIT_NETWORK"] = "own"
    os.execvp(command[0], [*command, sys.executable, *sys.argv])
