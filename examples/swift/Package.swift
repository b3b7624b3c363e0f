// swift-tools-version:5.5
// Plan files sampled from Swift. The C library is found by pkg-config: targets/c/install.sh installs it.
import PackageDescription

let package = Package(
    name: "Fewstep",
    products: [.library(name: "Fewstep", targets: ["Fewstep"])],
    targets: [
        .systemLibrary(name: "CFewstep", pkgConfig: "fewstep"),
        .target(name: "Fewstep", dependencies: ["CFewstep"]),
        .executableTarget(name: "Sample", dependencies: ["Fewstep"]),
    ]
)
