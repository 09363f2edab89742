"""moto's server, with one of its faults put right: which URL a signature is checked against.

moto 5.2.1 checks it against the URL as werkzeug spells it, where `=`, `+`, `é` and more are no longer escaped as the
client sent and signed them. Every request for such a key is refused with SignatureDoesNotMatch, boto3's too, and so is
every report, because a job's id ends in `=`. Here the signature is checked against the request line as it came, which
is what S3 does and no easier to pass.
"""

from __future__ import annotations

from typing import Any

import flask
from moto.s3.responses import S3Response
from moto.server import main

_authenticate = S3Response._authenticate_and_authorize_s3_action


def _authenticate_request_line(self: S3Response, *arguments: Any, **named: Any) -> None:
    spelled = self.uri
    self.uri = flask.request.environ["RAW_URI"]
    try:
        _authenticate(self, *arguments, **named)
    finally:
        self.uri = spelled


S3Response._authenticate_and_authorize_s3_action = _authenticate_request_line  # type: ignore[method-assign, assignment]

if __name__ == "__main__":
    main()
