// Runs one case of a bundle on a phone and tells where its operators run. Add the .mlpackage to an
// app's target (Xcode compiles it) and call `verify(compiled: Bundle.main.url(...)!)`.
import CoreML

/// Returns the outputs of one prediction on zeros, and how many operators prefer each device.
@available(iOS 17.4, macOS 14.4, *)
func verify(compiled url: URL) async throws -> (outputs: [String: MLMultiArray], placed: [String: Int]) {
    let configuration = MLModelConfiguration()
    configuration.computeUnits = .cpuAndNeuralEngine
    let model = try await MLModel.load(contentsOf: url, configuration: configuration)
    var given: [String: MLFeatureValue] = [:]
    for (name, described) in model.modelDescription.inputDescriptionsByName {
        guard let array = described.multiArrayConstraint else { continue }
        let zeros = try MLMultiArray(shape: array.shape, dataType: array.dataType)
        given[name] = MLFeatureValue(multiArray: zeros)
    }
    let found = try await model.prediction(from: MLDictionaryFeatureProvider(dictionary: given))
    var outputs: [String: MLMultiArray] = [:]
    for name in found.featureNames {
        outputs[name] = found.featureValue(for: name)?.multiArrayValue
    }
    let plan = try await MLComputePlan.load(contentsOf: url, configuration: configuration)
    var placed: [String: Int] = [:]
    if case let .program(program) = plan.modelStructure {
        for function in program.functions.values {
            for operation in function.block.operations {
                guard let usage = plan.deviceUsage(for: operation) else { continue }
                placed["\(usage.preferred)", default: 0] += 1
            }
        }
    }
    return (outputs, placed)
}
