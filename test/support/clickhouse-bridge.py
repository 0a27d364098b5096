"""ClickHouse's HTTP interface in front of an embedded ClickHouse (chdb): what of it Throughline uses, and no more.

The statement is the body; `database`, `default_format` and `param_*` stand in the URL; a user logs in by HTTP Basic.
Prints the port it listens on, and ends when its standard input does.

    python3 clickhouse-bridge.py <user> <password>
"""
import base64
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb import session

LOGIN = "Basic " + base64.b64encode(":".join(sys.argv[1:3]).encode()).decode()
engine = session.Session()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        statement = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        if self.headers.get("authorization") != LOGIN:
            self.answer(403, "Code: 516. DB::Exception: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)")
            return
        fields = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True, errors="replace"))
        params = {name[len("param_"):]: value for name, value in fields.items() if name.startswith("param_")}
        try:
            engine.query("USE `%s`" % fields.get("database", "default").replace("\\", "\\\\").replace("`", "\\`"))
            result = engine.query(statement, fields.get("default_format", "TabSeparated"), params=params)
            self.answer(200, result.bytes() or b"")
        except Exception as error:
            self.answer(404 if "UNKNOWN_TABLE" in str(error) else 500, str(error))

    def answer(self, status, body):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=end_with_parent, daemon=True).start()
print(server.server_port, flush=True)
server.serve_forever()
