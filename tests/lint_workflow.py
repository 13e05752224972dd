"""Lints the workflow with Snakemake's own linter, over a small generated study."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.workflow.small_study import REPOSITORY, write_small_study


def main() -> int:
    """Returns the linter's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        config = write_small_study(Path(folder))
        command = [sys.executable, "-m", "snakemake", "--lint", "--snakefile", str(REPOSITORY / "Snakefile")]
        done = subprocess.run(
            [*command, "--configfile", str(config), "--directory", folder], capture_output=True, text=True
        )
    print((done.stdout + done.stderr).strip())
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
