// Plan files sampled from Swift, over the C interface: rules of docs/c.md.
import CFewstep

/// What a call has to say.
public struct FewstepError: Error, CustomStringConvertible {
    /// A `fewstep_status`.
    public let status: UInt32
    public let description: String
}

private func check(_ status: fewstep_status) throws {
    guard status == FEWSTEP_OK else {
        throw FewstepError(status: UInt32(status.rawValue), description: String(cString: fewstep_last_error()))
    }
}

/// A plan file, mapped into memory. Any number of threads and sessions may use it, and it may go before these.
public final class Plan {
    fileprivate let pointer: OpaquePointer

    public init(_ path: String) throws {
        var plan: OpaquePointer?
        try check(fewstep_plan_open(path, &plan))
        pointer = plan!
    }

    deinit { fewstep_plan_close(pointer) }

    /// Compares the weights with their checksum, which reads them all.
    public func verify() throws { try check(fewstep_plan_verify(pointer)) }
}

/// A model that is ready to be sampled. It may move between threads, but one at a time may use it.
public final class Session {
    private let pointer: OpaquePointer
    /// A sample's dimensions.
    public let shape: [Int]
    /// Values of a sample.
    public var elements: Int { shape.reduce(1, *) }

    /// - Parameters:
    ///   - threads: 0 for as many as the CPU runs at once, 1 for none but the caller's
    ///   - steps: network evaluations a sample, 0 for the plan's
    ///   - seed: of the first sample's noise; the next sample has the next seed
    public init(_ plan: Plan, threads: Int = 0, steps: Int = 0, seed: UInt64 = 0) throws {
        var options = fewstep_options()
        (options.threads, options.steps, options.seed) = (threads, steps, seed)
        var session: OpaquePointer?
        try check(fewstep_session_new(plan.pointer, &options, &session))
        pointer = session!
        var (dims, rank) = ([Int](repeating: 0, count: 8), 0)
        let status = fewstep_session_shape(pointer, &dims, dims.count, &rank)
        shape = Array(dims.prefix(rank))
        try check(status)
    }

    deinit { fewstep_session_free(pointer) }

    /// Sets a condition for the samples to come: one value for all its elements, or one for each.
    public func setCondition(_ name: String, _ values: Double...) throws {
        try check(fewstep_session_set_condition(pointer, name, values, values.count))
    }

    /// Sets the seed of the next sample's noise.
    public func setSeed(_ seed: UInt64) throws { try check(fewstep_session_set_seed(pointer, seed)) }

    /// Draws one sample into a buffer of exactly `elements` values, without a copy.
    public func sample(into out: UnsafeMutableBufferPointer<Float>) throws {
        try check(fewstep_session_sample(pointer, nil, out.baseAddress, out.count))
    }

    /// Draws one sample.
    public func sample() throws -> [Float] {
        var values = [Float](repeating: 0, count: elements)
        try values.withUnsafeMutableBufferPointer { try sample(into: $0) }
        return values
    }
}
