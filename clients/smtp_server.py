"""A mail server that writes what it gets as lines of JSON: smtp_server.py plain|starttls|tls [CERT KEY]

The first line is its port. Mail to `later@…` is put off once, mail to `nobody@…` is refused. With
TLS, only the user `ops` with the password `secret` may send."""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

mode = sys.argv[1]
context = None
if mode != "plain":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[2:4])


def say(value):
    print(json.dumps(value), flush=True)


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"ops", b"secret"))


class Handler:
    put_off = False

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 no such user"
        if address.startswith("later@") and not self.put_off:
            self.put_off = True
            return "451 come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "headers": {name: str(value) for name, value in mail.items()},
            "body": mail.get_content(),
        })
        return "250 OK"


async def serve():
    handler = Handler()
    secured = {"authenticator": authenticate, "auth_required": True} if context else {}
    if mode == "starttls":
        secured.update(tls_context=context, require_starttls=True)
    elif mode == "tls":
        secured.update(auth_require_tls=False)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, **secured),
        "127.0.0.1",
        0,
        ssl=context if mode == "tls" else None,
    )
    say(server.sockets[0].getsockname()[1])
    # Ends with whoever started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(serve())
