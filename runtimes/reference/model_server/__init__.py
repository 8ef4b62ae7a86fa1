"""The reference model server: scikit-learn, XGBoost, LightGBM and ONNX models over the Open Inference Protocol.

Must not know anything of Perennial but the environment variables that name the model and its directory.
"""
