"""A client with secrets all around it, run by test_canaries: what it is seen to have said goes into files.

python -m tests.canaries OUTPUT    (environment, HOME, TMPDIR and state directory are the test's)
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

MARKER = "told-by-the-analysis"
"""In the analysis's code and in what it prints: what is searched has to have it."""
DRAWN = "drawn-by-the-page"
"""Name of a histogram, which the dashboard shows."""


def record_payloads(output: Path) -> None:
    """Keep every payload that is sent."""
    from dask_root_lambda.invocation.invokers import AwsInvoker

    send = AwsInvoker._send
    directory = output / "payloads"
    directory.mkdir()

    def recorded(self: Any, info: Any, payload: bytes, cancellation: Any) -> Any:
        (directory / f"{len(list(directory.iterdir()))}-{id(payload)}.json").write_bytes(payload)
        return send(self, info, payload, cancellation)

    AwsInvoker._send = recorded  # type: ignore[method-assign]


def analyse() -> list[Any]:
    """A run that succeeds and three that fail; results and errors."""
    import dask
    import ROOT

    from dask_root_lambda import RDataFrame

    seen: list[Any] = []
    # Random: so long a mapper goes through the store.
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=40_000))
    ROOT.gInterpreter.ProcessLine("#include <cstdio>")
    frame = RDataFrame(400, npartitions=4)
    code = f'if (rdfentry_ % 100 == 0) {{ printf("{MARKER}\\n"); }} /* {noise} */ return double(rdfentry_);'
    good = frame.Define("x", code)
    drawn = good.Histo1D((DRAWN, "", 4, 0.0, 400.0), "x")
    seen += [good.Sum("x").GetValue(), drawn, good]
    stored = dask.delayed(os.urandom)(6_000_000)
    with dask.annotate(executor="lambda"):
        seen.append(len(stored.compute()))
    throwing = 'if (rdfentry_ == 399) throw std::runtime_error("on purpose"); return 1;'
    failing = [
        lambda: frame.Define("y", throwing).Sum("y").GetValue(),
        lambda: frame.Filter("there_is_no_such_column > 1").Count().GetValue(),
        lambda: RDataFrame("Events", "/there/is/no/such.root").Count().GetValue(),
        lambda: dask.delayed(int)("no number").compute(),
    ]
    for each in failing:
        try:
            with dask.annotate(executor="lambda"):
                each()
        except Exception as error:  # an error is one of the texts that are searched
            seen += [error, "".join(traceback.format_exception(error))]
    return seen


def pages(cluster: Any) -> dict[str, bytes]:
    """The dashboard's pages: its plots, and those of the scheduler, of its worker and of each task."""
    scheduler = cluster.scheduler
    plots = [
        path for app in scheduler.http_application.applications for path in getattr(app, "app_paths", ())
    ]
    (worker,) = (quote(address, safe="") for address in scheduler.workers)
    paths = [
        *plots,
        *(
            "/lambda/state.json",
            "/lambda/histograms.json",
            "/metrics",
            "/health",
            "/json/counts.json",
            "/json/identity.json",
            "/individual-plots.json",
        ),
        *(f"/info/main/{name}.html" for name in ("workers", "exceptions", "logs")),
        *(f"/info/{kind}/{worker}.html" for kind in ("worker", "logs", "call-stacks")),
        *(f"/info/task/{quote(str(key), safe='')}.html" for key in scheduler.tasks),
    ]
    found = {}
    for path in paths:
        # Some fail where the worker is in the scheduler's process; what they answer is kept all the same.
        try:
            with urlopen(f"{cluster.dashboard_link.rpartition('/')[0]}{path}", timeout=90) as answer:
                found[path] = answer.read()
        except HTTPError as error:
            found[path] = error.read()
            error.close()
    return found


def cloud(endpoint: str, output: Path) -> None:
    """What is in the emulated AWS: objects, and the log."""
    import boto3

    key = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    s3, logs, functions = (
        boto3.client(name, endpoint_url=endpoint, **key) for name in ("s3", "logs", "lambda")
    )
    (output / "store").mkdir()
    for number, item in enumerate(s3.list_objects_v2(Bucket="dask-root-lambda").get("Contents", [])):
        blob = s3.get_object(Bucket="dask-root-lambda", Key=item["Key"])["Body"].read()
        (output / "store" / str(number)).write_bytes(item["Key"].encode() + b"\n" + blob)
    groups = logs.describe_log_groups()["logGroups"]
    events = [logs.filter_log_events(logGroupName=each["logGroupName"])["events"] for each in groups]
    (output / "log.json").write_text(json.dumps(events))
    function = functions.get_function(FunctionName="dask-root-lambda")
    (output / "function.json").write_text(json.dumps(function, default=str))


def keep(source: Path, target: Path) -> None:
    """Copy files, and who may read them; what goes meanwhile, with its environment, is left out."""
    for directory, _, names in os.walk(source):
        made = target / Path(directory).relative_to(source)
        made.mkdir(parents=True)
        for name in names:
            path = Path(directory) / name
            if path.is_file() and not path.is_symlink():
                with suppress(FileNotFoundError):
                    shutil.copy2(path, made / name)
        with suppress(FileNotFoundError):
            shutil.copymode(directory, made)


def main() -> None:
    """Run the analysis, and write down what can be seen of it from outside."""
    output = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    from dask_root_lambda import LambdaCluster
    from dask_root_lambda.invocation import emulated

    record_payloads(output)
    started: list[Any] = []
    begin = emulated.EmulatorProcess.__init__

    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        started.append(self)

    emulated.EmulatorProcess.__init__ = noted  # type: ignore[method-assign]
    with LambdaCluster(execution="emulated", concurrency=2) as cluster, cluster.get_client() as client:
        seen = [*analyse(), cluster, client, cluster.report(), cluster._executor, client.scheduler_info()]
        texts = [text for each in seen for text in (str(each), repr(each))]
        texts += [each._repr_html_() for each in (cluster, client, cluster.report())]
        texts += [json.dumps(cluster.report().to_dict(), default=str), str(client.get_scheduler_logs())]
        (output / "texts.json").write_text(json.dumps(texts))
        shown = pages(cluster)
        (output / "pages").mkdir()
        for number, (path, page) in enumerate(shown.items()):
            (output / "pages" / str(number)).write_bytes(path.encode() + b"\n" + page)
        cloud(started[0].endpoint, output)
        for name, directory in (("tmp", os.environ["TMPDIR"]), ("state", os.environ["XDG_STATE_HOME"])):
            keep(Path(directory), output / name)


if __name__ == "__main__":
    main()
