// Draws one sample of a plan file: sample PLAN.fsp [NAME=VALUE]...
import Fewstep
import Foundation

do {
    let session = try Session(Plan(CommandLine.arguments[1]), threads: 1, seed: 42)
    for condition in CommandLine.arguments.dropFirst(2) {
        let parts = condition.split(separator: "=")
        try session.setCondition(String(parts[0]), Double(parts[1])!)
    }
    for value in try session.sample() { print(value) }
} catch {
    FileHandle.standardError.write(Data("error: \(error)\n".utf8))
    exit(1)
}
