"""One way to open an ONNX model, so that all of them share a server's cores politely."""

from pathlib import Path

import onnxruntime as ort

from features.errors import ReleaseError


def open_session(path: Path, *, threads: int) -> ort.InferenceSession:
    """ReleaseError where the file is missing or damaged."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool would burn the cores that answer requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise ReleaseError(
            f"{path}: expected an ONNX model, found {error}. "
            "Run the night again or activate an older release."
        ) from error
