"""Tokens for OAUTHBEARER: unsecured ones, and signed ones from an endpoint of OpenID Connect."""

import base64
import contextlib
import json
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs


def _encoded(part):
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _claims(subject, seconds, **more):
    now = time.time()
    return {"sub": subject, "iat": now, "exp": now + seconds, **more}


def unsecured(subject, seconds=3600):
    """A token without a signature, which Kafka takes by default (and no sane cluster should)."""
    return f"{_encoded({'alg': 'none'})}.{_encoded(_claims(subject, seconds))}."


def signed(security, subject, seconds=3600):
    """A token that the listener OIDC of a secure cluster takes."""
    claims = _claims(subject, seconds, iss=security["issuer"], aud=security["audience"])
    text = f"{_encoded({'alg': 'RS256', 'kid': 'kavka', 'typ': 'JWT'})}.{_encoded(claims)}"
    sign = ["openssl", "dgst", "-sha256", "-sign", security["token_key"]]
    signature = subprocess.run(sign, input=text.encode(), capture_output=True, check=True).stdout
    return f"{text}.{_encoded(signature)}"


class Endpoint:
    """A token endpoint, whose `url` gives a token to whoever knows the client's id and secret.

    :param seconds: how long a token is valid.

    `requests` counts the requests for tokens.
    """

    client_id, client_secret = "kavka", "endpoint-secret"

    def __init__(self, security, seconds=3600):
        self._security, self._seconds = security, seconds
        self.requests = 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                endpoint.answer(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(security["server_certificate"])
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request):
        """Answers a request as RFC 6749, section 4.4, says."""
        self.requests += 1
        form = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        basic = f"{self.client_id}:{self.client_secret}".encode()
        authorized = request.headers["Authorization"] == f"Basic {base64.b64encode(basic).decode()}"
        if not authorized or form.get("grant_type") != ["client_credentials"]:
            status, answer = 401, {"error": "invalid_client", "error_description": "unknown client or secret"}
        else:
            token = signed(self._security, "kavka", self._seconds)
            status, answer = 200, {"access_token": token, "token_type": "Bearer", "expires_in": self._seconds}
        body = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        with contextlib.suppress(ConnectionError):
            request.wfile.write(body)

    def close(self):
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
