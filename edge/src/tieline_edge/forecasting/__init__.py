"""Local load forecasts: model store, history, ONNX runtime, gate and fallback. onnxruntime loads with the first model."""
