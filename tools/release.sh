#!/usr/bin/env bash
# make release: builds the source archive and the wheel, checks both in fresh environments, and tags the commit.
# Each argument is an environment, "python3.11 torch==2.11.0". TAG=no: everything but the tag. JOBS: processes of tests.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' gle/__init__.py)
place=$PWD/build/release

must() { # what has to hold before a tag
    "${@:2}" && return
    echo "not to be tagged: $1" >&2
    [ "${TAG:-}" = no ] || exit 1
}
empty() { [ -z "$("$@")" ]; }
unreleased() { sed -n '/^## \[Unreleased\]/,/^## \[[0-9]/p' CHANGELOG.md | grep -v '^##' | grep .; }
must "there are changes that are not committed" empty git status --porcelain
must "CHANGELOG.md has no line '## [$version] - <date>'" grep -qE "^## \[$version\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md
must "CHANGELOG.md has changes under [Unreleased]" empty unreleased
must "v$version is tagged already: raise gle.__version__" empty git tag --list "v$version"

rm -rf "$place" dist
python3 -m venv "$place/build"
"$place/build/bin/pip" install --quiet build twine
"$place/build/bin/python" -m build --outdir dist
"$place/build/bin/twine" check --strict dist/*

archive=gle_toolkit-$version
wheel=$(echo dist/"$archive"-*.whl)
for environment in "$@"; do
    read -r python torch <<<"$environment"
    here=$place/${python##*/}-${torch/==/-}
    mkdir "$here"
    "$python" -m venv "$here/venv"
    "$here/venv/bin/pip" install --quiet "$torch" "gle-toolkit[dev] @ file://$PWD/$wheel"
    suite=("$here/venv/bin/python" -m pytest -q -p no:cacheprovider -n "${JOBS:-auto}" --dist loadgroup -m "not slow")
    export OMP_NUM_THREADS=1

    echo "== $environment: the source archive"
    tar -xzf "dist/$archive.tar.gz" -C "$here"
    (cd "$here/$archive" && "${suite[@]}")

    echo "== $environment: the wheel"
    mkdir "$here/wheel" # the tests, and no packages that could stand in front of those installed
    cp -r "$here/$archive"/{tests,docs,configs,pyproject.toml,README.md,Makefile} "$here/wheel"
    (
        cd "$here/wheel"
        "$here/venv/bin/python" -c 'import bench, gle, hrm; assert all("site-packages" in p.__file__ for p in (bench, gle, hrm))'
        "${suite[@]}" tests/contract tests/gradients tests/hrm tests/theory
    )
done

[ "${TAG:-}" = no ] && exit
git tag --annotate "v$version" --message "gle-toolkit $version"
echo "v$version is tagged here, and dist/ holds what belongs to it: push the tag, and upload dist/* with twine"
