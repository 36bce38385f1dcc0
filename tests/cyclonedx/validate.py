"""Holds CycloneDX documents against the schema of the version that they name, strictly: validate.py FILE..."""

import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

for path in sys.argv[1:]:
    text = pathlib.Path(path).read_text(encoding="utf-8")
    version = SchemaVersion.from_version(json.loads(text)["specVersion"])
    error = JsonStrictValidator(version).validate_str(text)
    if error:
        sys.exit(f"{path}: {error}")
    print(f"{path}: valid CycloneDX {version.to_version()}")
