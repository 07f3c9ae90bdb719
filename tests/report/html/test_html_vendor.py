"""The libraries in the page are what pinned packages give, byte for byte, and their licences go with them."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
VENDOR = ROOT / "maskbench" / "report" / "html" / "assets" / "vendor"
SOURCES = ROOT / "scripts" / "assets"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text())


def sha256(name: str) -> str:
    return hashlib.sha256((VENDOR / name).read_bytes()).hexdigest()


def test_the_files_are_those_of_the_manifest() -> None:
    told = {one["file"]: one["sha256"] for one in [*MANIFEST["bundles"], MANIFEST["licences"]]}
    assert {name: sha256(name) for name in told} == told
    assert {path.name for path in VENDOR.iterdir()} == {*told, "manifest.json"}
    assert {one["file"]: one["bytes"] for one in MANIFEST["bundles"]} == {
        one["file"]: (VENDOR / one["file"]).stat().st_size for one in MANIFEST["bundles"]
    }


def test_every_package_is_pinned_by_hash_and_leaves_its_licence() -> None:
    locked = json.loads((SOURCES / "package-lock.json").read_text())["packages"]
    licences = (VENDOR / "LICENSES.txt").read_text()
    assert MANIFEST["packages"]
    for package in MANIFEST["packages"]:
        name, version = package["name"], package["version"]
        pinned = locked[f"node_modules/{name}"]
        assert (pinned["version"], pinned["integrity"]) == (version, package["integrity"]), name
        assert package["tarball"] == f"{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        assert package["integrity"].startswith("sha512-") and package["license"] in ("MIT", "ISC", "BSD-3-Clause")
        heads = [block.split("\n", 1)[0].split(", ") for block in licences.split("-" * 40 + "\n\n")]
        assert sum(f"{name} {version}" in head for head in heads) == 1, f"{name} stands over one licence"
    asked = json.loads((SOURCES / "package.json").read_text())
    wanted = asked["dependencies"] | asked["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values()), "exact versions"


def test_a_bundle_can_stand_in_a_page() -> None:
    """It cannot end its element, evaluates no text, and names no place but namespaces of XML."""
    for bundle in MANIFEST["bundles"]:
        text = (VENDOR / bundle["file"]).read_text(encoding="utf-8")
        assert text.replace('"use strict";', "").startswith(f"var {bundle['global']}="), "one global name"
        assert not re.search(r"</script|<!--|\beval\(|new Function|\bimport\(|XMLHttpRequest|\bfetch\(", text, re.IGNORECASE)
        assert {place.split("/")[2] for place in re.findall(r"https?://[^'\"` ]+", text)} <= {"www.w3.org"}


@pytest.mark.network
def test_the_pinned_packages_give_the_files(tmp_path: Path) -> None:
    if not all(map(shutil.which, ("node", "npm"))):
        pytest.skip("no Node.js: install node and npm, which make assets uses")
    for part in (SOURCES, VENDOR):
        kept = shutil.ignore_patterns("node_modules")
        shutil.copytree(part, tmp_path / part.relative_to(ROOT), ignore=kept)
    where = tmp_path / SOURCES.relative_to(ROOT)
    subprocess.run(["npm", "ci", "--silent"], cwd=where, check=True)
    subprocess.run(["node", "build.mjs", "--check"], cwd=where, check=True)
    (tmp_path / VENDOR.relative_to(ROOT) / "table.js").write_text("var Table={};")
    changed = subprocess.run(["node", "build.mjs", "--check"], cwd=where, capture_output=True, text=True)
    assert changed.returncode == 1 and changed.stderr.startswith("table.js in ")
