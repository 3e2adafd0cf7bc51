"""Off this machine: certificates on both sides and a token, or nothing; and nobody is told more than that."""

import datetime
import ipaddress

import grpc
import pytest

from jaxrl_client import channels, remote
from jaxrl_client.channels import Security
from jaxrl_client.remote import CallError
from tests.client import services
from tests.client.virtual import path

x509 = pytest.importorskip("cryptography.x509", reason="needs cryptography, of the extra dev")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

TOKEN = "a token of more than sixteen characters"


def _name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _certificate(name, signer=None, days=1):
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    issuer, signing = signer or (_name(name), key)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=3))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .sign(signing, hashes.SHA256())
    )
    return built, key


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """PEM files of an authority, a server, and clients that are good, expired, and of another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    roots = {name: _certificate(name) for name in ("root", "other")}
    made = {
        **roots,
        **{name: _certificate(name, (_name("root"), roots["root"][1])) for name in ("server", "robot")},
        "expired": _certificate("robot", (_name("root"), roots["root"][1]), days=-1),
        "stranger": _certificate("robot", (_name("other"), roots["other"][1])),
    }
    for name, (certificate, key) in made.items():
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(*form))
    return lambda name, root="root", token="": Security(folder / f"{root}.pem", folder / f"{name}.pem", folder / f"{name}.key", token)


@pytest.fixture(scope="module")
def address(files):
    security = files("server", token=TOKEN)
    server, at = services.serve(services.Policy(path), security, interceptors=(channels.token_interceptor(security),))
    yield at
    server.stop(0).wait()


def test_who_has_certificate_and_token_is_answered(files, address):
    with channels.channel(address, files("robot", token=TOKEN)) as channel:
        assert remote.remote_policy(channel).spec == services.POLICY


@pytest.mark.parametrize(
    "name, root, token, said",
    [
        ("expired", "root", TOKEN, "UNAVAILABLE"),
        ("stranger", "root", TOKEN, "UNAVAILABLE"),
        ("robot", "other", TOKEN, "UNAVAILABLE"),  # the client does not trust the server
        ("robot", "root", "", "UNAUTHENTICATED: the call bears no token, or another one"),
        ("robot", "root", TOKEN + "!", "UNAUTHENTICATED"),
    ],
)
def test_who_has_not_is_turned_away_without_a_traceback(name, root, token, said, files, address):
    with channels.channel(address, files(name, root, token)) as channel, pytest.raises(CallError, match=said) as raised:
        remote.remote_policy(channel, seconds=2.0)
    assert "Traceback" not in str(raised.value) and ".py" not in str(raised.value)


def test_who_comes_without_a_certificate_is_turned_away(address, files):
    root = grpc.ssl_channel_credentials(files("robot").root.read_bytes())
    for channel in (grpc.secure_channel(address, root), grpc.insecure_channel(address)):
        with channel, pytest.raises(CallError, match="UNAVAILABLE"):
            remote.remote_policy(channel, seconds=1.0)


@pytest.mark.parametrize("at", ["10.0.0.1:50051", "robot.local:50051", "0.0.0.0:50051", "[::]:50051", "example.org:443", "ipv4:10.0.0.1:1"])
def test_plain_text_to_other_machines_is_refused_unless_it_is_asked_for(at):
    server = grpc.server(services.ThreadPoolExecutor(1))
    for act in (lambda: channels.channel(at), lambda: channels.add_port(server, at)):
        with pytest.raises(ValueError, match=r"is not on this machine: give certificates .*insecure=True"):
            act()
    channels.channel(at, insecure=True).close()


@pytest.mark.parametrize("at", ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.0.1:1", "unix:/tmp/robot", "ipv4:127.0.0.1:1"])
def test_this_machine_needs_none(at):
    assert channels.loopback(at)
    channels.channel(at).close()


def test_what_cannot_secure_anything_is_refused(files, tmp_path):
    with pytest.raises(ValueError, match="root: there is no file"):
        Security(tmp_path / "none.pem", tmp_path, tmp_path)
    with pytest.raises(ValueError, match="the token has 5 characters, expected 16"):
        files("robot", token="short")
    with pytest.raises(ValueError, match="no token to check"):
        channels.token_interceptor(files("robot"))
