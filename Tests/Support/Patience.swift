/// How long a test waits for what must come before it fails. So long that no machine is too slow for it: only what never
/// comes takes it.
public let patience: Duration = .seconds(600)
