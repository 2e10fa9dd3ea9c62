"""Classical heads (SVM, bagged SGD, one-class SVM, logistic) on frozen features: ONNX graphs and publication."""
