"""The emulator as a command: ``python -m dask_root_lambda.emulator``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import selectors
import shlex
import signal
import sys
from pathlib import Path

from dask_root_lambda.emulator.faults import Faults, load_faults
from dask_root_lambda.emulator.options import IMAGE_RUNNERS, Options, load_images
from dask_root_lambda.emulator.peers import is_loopback
from dask_root_lambda.emulator.server import Emulator

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the emulator's options to a command."""
    defaults = Options()
    add = parser.add_argument
    add(
        "--host",
        default=defaults.host,
        help="address to listen on (default: %(default)s, this machine only); another prints the key",
    )
    add("--port", type=int, default=defaults.port, help="port to listen on (default: a free one)")
    add("--region", default=defaults.region, help="AWS region of the functions (default: %(default)s)")
    add("--account-concurrency", type=int, default=defaults.account_concurrency, metavar="N",
        help="invocations at a time, of all functions together (default: %(default)s)")  # fmt: skip
    add("--scaling-rate", type=int, default=defaults.scaling_rate, metavar="N",
        help="environments that a function may start in ten seconds (default: %(default)s)")  # fmt: skip
    add("--idle-timeout", type=float, default=defaults.idle_timeout_s, metavar="S", dest="idle_timeout_s",
        help="end environments that had no work for so long (default: %(default)s)")  # fmt: skip
    add("--python-path", action="append", default=[], metavar="DIR", help="directory of handlers; repeatable")
    add("--inherit", action="append", default=[], metavar="NAME",
        help="variable of this process that environments have as well; repeatable")  # fmt: skip
    add("--images", type=Path, metavar="FILE", help="YAML or JSON: what image URIs stand for")
    add("--image-runner", choices=IMAGE_RUNNERS, default=defaults.image_runner,
        help="what runs other images: this interpreter, or podman's container (%(default)s)")  # fmt: skip
    add("--reachable", action="append", default=[], metavar="HOST:PORT",
        help="address on this machine's loopback network that containers reach; repeatable")  # fmt: skip
    add("--private-tmp", action="store_true", help="give each environment a /tmp of its own")
    add("--virtual-clock", action="store_true", help="skip the waiting between retries, and when told to")
    add("--settle", type=float, default=defaults.settle_s, metavar="S", dest="settle_s",
        help="how long a function is pending, and an update in progress (default: %(default)s)")  # fmt: skip
    add("--iam", action="store_true", help="check signatures and IAM policies; prints the root user's key")
    add("--faults", type=Path, metavar="FILE", help="YAML or JSON: what goes wrong, and when")
    add("--seed", type=int, metavar="N", help="of what is left to chance: faults, weighted aliases")
    add("--stop-on-disconnect", action="store_true", help="end what runs for a client that goes away")
    add("--certificate", type=Path, metavar="PEM", help="serve TLS with this certificate")
    add("--private-key", type=Path, metavar="PEM", help="its key, if that is in another file")
    add("--output", choices=("json", "shell"), default="json", help="how to tell the endpoint (%(default)s)")
    add(
        "--exit-with-stdin",
        action="store_true",
        help="stop at the end of standard input: when the parent ends",
    )


def serve(args: argparse.Namespace) -> int:
    """Serve until a signal, or the end of standard input; returns the exit status.

    Writes one line of JSON, or what to export, to stdout when the endpoint answers.
    """
    try:
        options = _read_options(args)
        emulator = Emulator(options)
        with _Signals(args.exit_with_stdin) as signals:
            emulator.start()
            sys.stdout.write(_describe(emulator, args.output) + "\n")
            sys.stdout.flush()
            signals.wait()
            emulator.stop()
    except (ValueError, RuntimeError) as error:
        logger.error("%s", error)  # noqa: TRY400 - the user's mistake, not a bug to trace
        return 1
    return 0


def _describe(emulator: Emulator, output: str) -> str:
    """Tell where the emulator is: for a program, or as commands that a shell can evaluate."""
    # What is written into a file may be read by others: the key is in it only where somebody needs it.
    any_will_do = not emulator.options.iam and is_loopback(emulator.options.host)
    ready = {
        "endpoint": emulator.endpoint,
        "region": emulator.options.region,
        "access_key_id": "any" if any_will_do else emulator.access_key_id,
        "secret_access_key": "any" if any_will_do else emulator.secret_access_key,
    }
    if output == "json":
        return json.dumps(ready)
    # boto3 and the AWS CLI know the default region, the other SDKs the region.
    names = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    lines = [f"export {name}={shlex.quote(value)}" for name, value in zip(names, ready.values(), strict=True)]
    lines.append(f"export AWS_REGION={shlex.quote(emulator.options.region)}")
    lines.append("unset AWS_SESSION_TOKEN AWS_PROFILE")
    if emulator.options.certificate:
        lines.append(f"export AWS_CA_BUNDLE={shlex.quote(str(emulator.options.certificate.resolve()))}")
    return "\n".join(lines)


def _read_options(args: argparse.Namespace) -> Options:
    return Options(
        host=args.host,
        port=args.port,
        region=args.region,
        account_concurrency=args.account_concurrency,
        scaling_rate=args.scaling_rate,
        idle_timeout_s=args.idle_timeout_s,
        python_path=tuple(args.python_path),
        inherited=tuple(args.inherit),
        iam=args.iam,
        faults=load_faults(args.faults) if args.faults else Faults(),
        seed=args.seed,
        settle_s=args.settle_s,
        images=load_images(args.images) if args.images else (),
        reachable=tuple(args.reachable),
        image_runner=args.image_runner,
        private_tmp=args.private_tmp,
        virtual_clock=args.virtual_clock,
        stop_on_disconnect=args.stop_on_disconnect,
        certificate=args.certificate,
        private_key=args.private_key,
    )


class _Signals:
    """Waits for SIGINT, SIGTERM, or the end of standard input."""

    def __init__(self, with_stdin: bool) -> None:
        self._with_stdin = with_stdin
        self._read, self._write = os.pipe()

    def __enter__(self) -> _Signals:
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)

    def wait(self) -> None:
        """Return when it is time to stop."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._read, selectors.EVENT_READ)
            if self._with_stdin:
                selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == self._read or not os.read(key.fd, 4096):
                        return


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m dask_root_lambda.emulator", description=__doc__)
    add_arguments(parser)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    return serve(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
