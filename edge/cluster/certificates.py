"""`python -m edge.cluster.certificates FOLDER`: what keeps everybody else out of a cluster.

Writes ca.pem, cert.pem and key.pem, a key with a certificate that it signed itself, for the scheduler, all workers and
whoever gives them work: who has key.pem belongs to them, so it is for its owner alone.
"""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

from edge.cluster.where import Certificates
from edge.errors import UserError
from simulator.files import reason


def main(argv: list[str]) -> int:
    """0; 2 if the files cannot be written."""
    if len(argv) != 1 or argv[0].startswith("-"):
        print(f"usage: python -m edge.cluster.certificates FOLDER\n\n{__doc__}", file=sys.stderr)
        return 2
    try:
        Path(argv[0]).mkdir(mode=0o700, parents=True, exist_ok=True)
        made = make_certificates(Path(argv[0]))
    except (UserError, OSError) as error:
        said = str(error) if isinstance(error, UserError) else f"{argv[0]} cannot be written: {reason(error)}."
        print(f"edge.cluster.certificates: {said}", file=sys.stderr)
        return 2
    print(f"wrote {made.ca}, {made.cert} and {made.key}")
    return 0


def make_certificates(folder: Path) -> Certificates:
    """Writes ca.pem, cert.pem and key.pem, valid for a year, over nothing that is there.

    Raises UserError, or OSError where it cannot write.
    """
    certificates = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    for path in (certificates.ca, certificates.cert, certificates.key):
        if path.exists():
            raise UserError(f"{path} is there already, and a cluster may run with it; give another folder.")
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError as error:
        raise UserError(
            "certificates need the package cryptography, which is not installed: pip install 'spikerir-edge[cluster]'."
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge-restore")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = cert.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, content in ((certificates.ca, public), (certificates.cert, public), (certificates.key, private)):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
    return certificates


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
