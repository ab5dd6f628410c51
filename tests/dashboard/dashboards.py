"""Requests to the dashboard of a cluster, as a browser or a script makes them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

SECRET_HEADER = "X-Dask-Root-Lambda-Secret"


def base(cluster):
    """Return the URL of the dashboard, without a page."""
    return f"http://127.0.0.1:{cluster.scheduler.http_server.port}"


def get(cluster, path):
    with urllib.request.urlopen(f"{base(cluster)}{path}", timeout=30) as answer:
        return answer.read().decode()


def state(cluster):
    """Return what the page shows."""
    return json.loads(get(cluster, "/lambda/state.json"))


def secret(cluster):
    return cluster.steering_link().partition("#secret=")[2]


def steer(cluster, action, method="POST", **headers):
    """Ask for an action; return the status and what was said."""
    request = urllib.request.Request(
        f"{base(cluster)}/lambda/steer",
        data=json.dumps(action).encode() if method == "POST" else None,
        method=method,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


def with_secret(cluster, action):
    return steer(cluster, action, **{SECRET_HEADER: secret(cluster)})
