"""A folder served on this computer, in place of the network."""

import functools
import http.server
import threading
from pathlib import Path


class Server:
    """A folder served on 127.0.0.1; it notes the paths ``asked`` for, and the first byte where that is not 0.

    It breaks off half way in ``cut``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.cut = folder, [], set()
        asked, cut = self.asked, self.cut

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args) -> None:
                """Stay silent."""

            def do_GET(self) -> None:
                asked.append(self.path)
                path, first = folder / self.path.lstrip("/"), self.headers.get("Range", "bytes=0-")
                if not path.is_file():
                    return super().do_GET()
                start = int(first.removeprefix("bytes=").removesuffix("-"))
                if start:
                    asked[-1] += f" from {start}"
                content = path.read_bytes()[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if self.path in cut else content)
                return None

        handler = functools.partial(Handler, directory=str(folder))
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
