/// The guest's user space: busybox, the balloon's driver, and a script that does what the demo wants to see.
struct GuestInitrd {
  /// Begins each line of the console that is meant for the demo.
  static let marker = "demo: "

  /// What the guest writes at the start and must find unharmed at the end, in MiB.
  static let keptMebibytes = 16
  /// What the guest leaves free when it touches its memory, in MiB.
  private static let spareMebibytes = 32

  let busybox: [UInt8]
  let modules: [GuestModule]

  /// The archive to start the kernel with.
  var bytes: [UInt8] {
    var archive = CpioArchive()
    for directory in ["bin", "dev", "proc", "sys", "modules", "kept", "scratch"] { archive.addDirectory(directory) }
    archive.addFile("bin/busybox", busybox, isProgram: true)
    for module in modules { archive.addFile("modules/\(module.fileName)", module.content) }
    archive.addFile("init", Array(script.utf8), isProgram: true)
    return archive.bytes
  }

  /// Starting a process is slow in User-Mode Linux, so the script starts few.
  var script: String {
    """
    #!/bin/busybox sh
    /bin/busybox --install -s /bin
    export PATH=/bin
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs dev /dev

    say() { echo "\(Self.marker)$*"; }
    fail() { say "failed $*"; poweroff -f; }
    # The counts first: with them the memory is never older than they are.
    figures() {
      awk '$1 == "MemTotal:" { total = $2 } $1 == "MemFree:" { free = $2 }
        $1 == "balloon_inflate" { inflated = $2 } $1 == "balloon_deflate" { deflated = $2 }
        END { print total, free, inflated, deflated }' /proc/vmstat /proc/meminfo
    }
    # Writes to all memory that can be had, and frees it: what was touched once stays with the guest.
    use_memory() {
      available=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
      dd if=/dev/zero of=/scratch/all bs=1M count=$((available - \(Self.spareMebibytes))) 2>/dev/null || return 1
      rm /scratch/all
    }

    say "kernel $(uname -r)"
    for module in \(modules.map(\.fileName).joined(separator: " ")); do
      insmod /modules/$module || fail "the module $module cannot be loaded"
    done
    [ -n "$(ls -d /sys/bus/virtio/drivers/virtio_balloon/virtio*)" ] || fail "the driver has found no balloon"

    mount -t tmpfs -o size=\(2 * Self.keptMebibytes)m kept /kept
    mount -t tmpfs -o size=100% scratch /scratch
    dd if=/dev/urandom of=/kept/data bs=1M count=\(Self.keptMebibytes) 2>/dev/null || fail "there is too little memory"
    (cd /kept && sha256sum data >sum)
    use_memory || fail "there is too little memory"
    say "ready"

    whole= last= tries=0
    while :; do
      now=$(figures)
      set -- $now
      whole=${whole:-$1}
      # The driver counts pages as given back a moment before the kernel has them.
      if [ "$3" = "$4" ] && [ "$1" != "$whole" ] && [ $tries -lt 50 ]; then
        tries=$((tries + 1))
      else
        [ "$now" = "$last" ] || say "memory $now"
        last=$now
        [ "$3" -gt 0 ] && [ "$3" = "$4" ] && break
      fi
      sleep 0.1
    done

    # The demo looks at the host before memory is touched again.
    sleep 0.5
    reused=bad kept=bad
    use_memory && cp /kept/data /scratch/data && (cd /scratch && sha256sum -c -s /kept/sum) && reused=good
    (cd /kept && sha256sum -c -s sum) && kept=good
    say "verdict $kept $reused"
    poweroff -f

    """
  }
}
