"""python on_tmpfs.py FOLDER FIRST SECOND flags...: `launch.py` twice on a workdir in memory, which
is mounted with the options FIRST and then SECOND, and copied to FOLDER in the end.

Needs Linux and the right to mount in a namespace of one's own; prints the exit codes.
"""

import pathlib
import shutil
import subprocess
import sys

OWN_MOUNTS = ("unshare", "--mount", "--map-root-user")


def main(folder: str, first: str, second: str, flags: list[str]) -> None:
    """Within the namespace."""
    (workdir,) = (flag.partition("=")[2] for flag in flags if flag.startswith("--workdir="))
    pathlib.Path(workdir).mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "tmpfs", workdir, "-o"]
    for options in (first, f"remount,{second}"):
        subprocess.run([*mount, options], check=True)
        done = subprocess.run([sys.executable, "launch.py", *flags], check=False)
        print(f"exit code {done.returncode}", flush=True)
    shutil.copytree(workdir, folder)


if __name__ == "__main__":
    if sys.argv[1] == "within":
        main(*sys.argv[2:5], sys.argv[5:])
    else:
        within = [*OWN_MOUNTS, sys.executable, __file__, "within", *sys.argv[1:]]
        sys.exit(subprocess.run(within, check=False).returncode)
