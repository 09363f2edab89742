"""Takes the scripts out of workflows and actions for shellcheck, and the workflows out of the README.

usage: lint.py FOLDER FILE...

Writes FOLDER/script-N.sh for each `run` of a step (bash, as GitHub runs it) and FOLDER/.github/workflows/*.yml for each workflow,
and prints nothing. A FILE that ends in .md is searched for blocks that begin with ```yaml.
"""

import pathlib
import re
import sys

import yaml


def texts(path):
    text = path.read_text()
    if path.suffix == ".md":
        return re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [text]


def steps(document):
    for job in document.get("jobs", {}).values():
        yield from job.get("steps", [])
    yield from document.get("runs", {}).get("steps", [])


def main():
    folder = pathlib.Path(sys.argv[1])
    workflows = folder / ".github/workflows"
    workflows.mkdir(parents=True)
    count = 0
    for name in sys.argv[2:]:
        for text in texts(pathlib.Path(name)):
            document = yaml.safe_load(text)
            if not isinstance(document, dict):
                continue
            if "jobs" in document:
                (workflows / f"{len(list(workflows.iterdir()))}-{pathlib.Path(name).stem}.yml").write_text(text)
            for step in steps(document):
                if "run" in step:
                    (folder / f"script-{count}.sh").write_text("#!/usr/bin/env bash\nset -eo pipefail\n" + step["run"])
                    count += 1
    if count == 0:
        sys.exit("no script was found")


main()
