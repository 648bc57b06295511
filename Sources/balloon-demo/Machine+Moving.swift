import Balloon
import DeviceState
import Foundation
import GuestRAM
import LinuxIO
import Migration
import SimulatedGuest
import VirtioCore

/// Giving a guest away while it works, and taking it.
extension Machine {
  /// Moves the guest to whoever is at the other end while it works on, and has it no more once this returns.
  ///
  /// Where the kernel cannot tell what the guest writes it stands still for all of the move.
  mutating func move(
    over link: MigrationLink, _ way: MemoryMove, tell: (String) throws -> Void
  ) throws -> MoveView {
    guest.pagesPerStep = Self.pagesPerPacedStep
    defer { guest.pagesPerStep = Self.pagesPerStep }
    guard !WriteTracker.available.isEmpty else { return try moveStopped(over: link) }
    let (desk, memory, notes) = (GuestDesk(), memory, try notes)
    let (outcome, cancellation) = (try Handover<Result<MigrationReport, MigrationError>>(), try Cancellation())
    let mover = try Thread(name: "move") {
      var guest = DeskGuest(memory, desk, usesHints: way == .sentUnlessFree)
      outcome.put(Self.move(&guest, way, over: link, notes, unless: cancellation))
      desk.give(.end)
    }
    let ran = Result { try run(at: desk, tell) }
    // A guest that has failed is not paused, so it is still here.
    if case .failure = ran { cancellation.cancel() }
    mover.join()
    let work = try ran.get()
    let report: MigrationReport
    do {
      report = try outcome.wait().get()
    } catch {
      if error.sourceMayRun { transport.host.resume() }
      throw error
    }
    return MoveView(report, work)
  }

  private static func move(
    _ guest: inout DeskGuest, _ way: MemoryMove, over link: MigrationLink, _ notes: [GuestDescription.Note],
    unless cancellation: Cancellation
  ) -> Result<MigrationReport, MigrationError> {
    let policy = MigrationPolicy(
      downtimeLimit: .milliseconds(10), slowsDown: true, stopsAnyway: true, forecasts: true)
    let desk = guest.desk
    do throws(MigrationError) {
      if way == .handedOver {
        return .success(try Source(link, producer: producer).handOver(&guest, notes: notes, unless: cancellation))
      }
      return .success(
        try Source(link, producer: producer).move(&guest, policy: policy, notes: notes, unless: cancellation) {
          (event) in
          if let text = event.text { desk.note(text) }
        })
    } catch {
      return .failure(error)
    }
  }

  /// Runs the guest as the one who moves it says, until it has gone or could not be moved.
  /// - Returns: what it got done.
  private mutating func run(at desk: GuestDesk, _ tell: (String) throws -> Void) throws -> StepMeter {
    var work = StepMeter()
    // Whoever moves the guest would wait for ever for one that nobody runs.
    defer { _ = desk.handIn(.failure(.guest("the guest has stopped"))) }
    while true {
      passHints(by: desk)
      let order = desk.order
      switch order {
      case .end: return work
      case .pause:
        let saved = save()
        if desk.handIn(saved) { transport.host.resume() }
      case .step(let share):
        let start = MonotonicClock.now
        try guest.step()
        work.step()
        if let note = desk.takeNote() { try tell(note) }
        desk.rest(until: start + UInt64(Double(Self.stepNanoseconds) / share), after: order)
      }
    }
  }

  /// Has the balloon do what the one who moves the guest wants about free pages, and hands those in that it was told of.
  private func passHints(by desk: GuestDesk) {
    for order in desk.takeHintOrders() {
      transport.host.update { (balloon) in
        switch order {
        // A driver that did not agree to hints is not asked: the move goes without.
        case .start: _ = try? balloon.startHinting()
        case .stop: balloon.stopHinting()
        case .finish: balloon.finishHinting()
        }
      }
    }
    desk.add(transport.host.update { $0.takeHints() }.ranges)
  }

  /// Stops the guest and its device, and saves both.
  private mutating func save() -> Result<[UInt8], MigrationError> {
    transport.host.pause()
    var snapshot = Snapshot(producer: Self.producer)
    do {
      try snapshot.add(guest.save())
      try transport.host.save(into: &snapshot)
      return .success(snapshot.encoded())
    } catch {
      return .failure(.guest("the guest cannot be saved: \(error)"))
    }
  }

  /// What the other process has to agree to before the first page.
  private var notes: [GuestDescription.Note] {
    get throws(MigrationError) {
      do throws(StateError) {
        return try profile.notes.map { GuestDescription.Note(name: $0.name, text: $0.text) }
      } catch {
        throw .guest("the guest's devices cannot be described: \(error)")
      }
    }
  }

  private mutating func moveStopped(over link: MigrationLink) throws -> MoveView {
    let pausedAt = MonotonicClock.now
    do {
      let state = try save().get()
      let report = try Source(link, producer: Self.producer)
        .move(memory, state: state, notes: notes, pausedAt: pausedAt, verifies: false)
      return MoveView(report, StepMeter())
    } catch {
      if error.sourceMayRun { transport.host.resume() }
      throw error
    }
  }

  /// Receives a guest, and lets it run here once its source has let go of it.
  /// - Parameter profile: what the guest has to agree with.
  static func receive(
    over link: MigrationLink, mostMemory: UInt64, pins: Bool = false, as profile: GuestProfile = destinationProfile
  ) throws -> Machine {
    var limits = DestinationLimits(mostMemory: mostMemory)
    limits.mostFiles = 1
    limits.pinsMemory = pins
    var destination = Destination(link, producer: producer, limits: limits)
    let arrived = try destination.receive(refusing: { (description) in
      profile.objection(to: description.notes.map { GuestProfile.Note(name: $0.name, text: $0.text) })
    })
    let machine: Machine
    do {
      machine = try Machine(arrived)
    } catch {
      destination.refuse("\(error)")
      throw error
    }
    _ = try destination.confirm { machine.transport.host.resume() }
    // A guest that named free pages has kept them unused for the move; here nobody counts on that any more.
    machine.transport.host.update { $0.finishHinting() }
    return machine
  }
}

extension MigrationEvent {
  /// The event as a line of progress; nil for one that nobody could read in time.
  fileprivate var text: String? {
    switch self {
    case .forecast(let forecast):
      String(
        format: "expected: %.1f s, stopped for %.0f ms", forecast.seconds, forecast.downtimeSeconds * 1000)
    case .pass(let number, let pass):
      "pass \(number) sent \(Size(pass.sentByteCount)); \(Size(pass.remainingByteCount)) were written meanwhile"
    case .waiting, .stopping, .left: nil
    }
  }
}
