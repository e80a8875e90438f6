"""A real nginx in front of a site: `nginx`, with the mark `needs_nginx`."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import LONG

# /usr/sbin is not in the PATH of every user.
_NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")

needs_nginx = pytest.mark.skipif(_NGINX is None, reason="needs nginx: apt-get install nginx")

_NGINX_CONFIGURATION = """
daemon off;
user {user} {group};
pid nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    limit_req_zone $binary_remote_addr zone=clients:1m rate=20r/s;
    server {{
        listen {address};
        location / {{
            proxy_pass {site};
            {directives}
        }}
    }}
}}
"""


@contextmanager
def nginx(site: str, folder: Path, directives: str = "") -> Iterator[str]:
    """The URL of an nginx that forwards to the site at this URL.

    Args:
        site: the URL.
        folder: an empty one, for its files.
        directives: of its ``location``. The zone ``clients`` of ``limit_req`` allows each address
            20 requests a second.
    """
    assert _NGINX is not None
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        address = "{}:{}".format(*listener.getsockname())
        configuration = _NGINX_CONFIGURATION.format(
            user=pwd.getpwuid(os.getuid()).pw_name,
            group=grp.getgrgid(os.getgid()).gr_name,
            address=address,
            site=site,
            directives=directives,
        )
        (folder / "nginx.conf").write_text(configuration)
        fd = listener.fileno()
        process = subprocess.Popen(
            [_NGINX, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"],
            pass_fds=[fd],
            # How an nginx gets the sockets of the one that it replaces: so its port can be any.
            env={**os.environ, "NGINX": f"{fd};"},
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(LONG)
