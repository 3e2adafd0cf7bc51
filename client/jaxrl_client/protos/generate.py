"""Generates the Python of the .proto files: python -m jaxrl_client.protos.generate. Needs grpcio-tools of the version below.

Generated code refuses every protobuf and gRPC older than what generated it, and the next but one major version of protobuf. The
descriptors inside are of proto3, the same to all of them, and robot computers have the versions that some maker's SDK asks for. So these
two refusals are left out; tests/client/test_distribution.py imports the result beside the oldest and the newest of both.
"""

import re
import tempfile
from importlib.metadata import version
from pathlib import Path

VERSION = "1.80.0"
HERE = Path(__file__).parent
_REFUSALS = {
    "_pb2.py": (
        r"from google\.protobuf import runtime_version as _runtime_version\n",
        r"_runtime_version\.ValidateProtobufRuntimeVersion\((?:[^)]|\n)*\)\n",
    ),
    "_pb2_grpc.py": (
        r"import warnings\n",
        r"GRPC_GENERATED_VERSION = (?:.|\n)*?\n    \)\n",
    ),
}


def generated() -> dict[str, str]:
    """The text of every generated file, by its name.

    Raises:
        ValueError: grpcio-tools has another version, or its output another form than expected.
    """
    from grpc_tools import protoc

    if version("grpcio-tools") != VERSION:
        raise ValueError(f"grpcio-tools is {version('grpcio-tools')}, but the committed files are of {VERSION}: install that one")
    root = HERE.parents[1]
    included = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
        sources = [str(file.relative_to(root)) for file in sorted(HERE.glob("*.proto"))]
        if protoc.main(["protoc", f"-I{root}", f"-I{included}", *outputs, *sources]):
            raise ValueError("protoc refuses the .proto files; what it says is above")
        files = sorted(Path(folder).rglob("*_pb2*.py*"))
        return {file.name: _without_refusals(file.name, file.read_text()) for file in files if _says_something(file)}


def _says_something(file: Path) -> bool:
    return not file.name.endswith("_pb2_grpc.py") or "class " in file.read_text()  # no service, nothing to say


def _without_refusals(name: str, text: str) -> str:
    for end, patterns in _REFUSALS.items():
        for pattern in patterns if name.endswith(end) else ():
            text, found = re.subn(pattern, "", text)
            if found != 1:
                raise ValueError(f"{name}: {pattern!r} is there {found} times, not once: grpcio-tools writes another form now")
    return text


def main() -> None:
    for name, text in generated().items():
        (HERE / name).write_text(text)
        print(HERE / name)


if __name__ == "__main__":
    main()
