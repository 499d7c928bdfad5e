#!/bin/sh
# Makes the virtual environment that the Makefile runs everything in.
#
#   sh devstack/bootstrap.sh FOLDER        (PYTHON=/path/to/python chooses the interpreter)
#
# Plain sh, because Python itself may be missing: what has to be there first is checked before anything is fetched, and its absence ends
# in one sentence. FOLDER/.complete marks a finished environment and holds the place it was made for: its scripts stop working
# when the folder is moved.
set -eu
folder=$1
stamp=$folder/.complete
here=$(pwd)
# Settings of the caller that would send packages past the environment.
unset PIP_USER PIP_TARGET PIP_PREFIX PYTHONHOME || true

fail() {
  echo "carrel: $1" >&2
  exit 1
}

# The first that is new enough and complete, newest first; `incomplete` remembers one that lacks venv.
choose_python() {
  incomplete=
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    # A name on the PATH may be a stub that refuses to run, so each is asked.
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then
      python=$candidate
      return
    fi
    incomplete=${incomplete:-$candidate}
  done
  if [ -n "$incomplete" ]; then
    version=$("$incomplete" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$incomplete has no venv and ensurepip, which make the environment: install them (Debian, Ubuntu: apt-get install python$version-venv)."
  fi
  found=$(python3 --version 2>&1) || found="no python3"
  fail "Python 3.11 or newer is needed, and there is ${PYTHON:-$found}: install it (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv; macOS: brew install python)."
}

choose_python
if [ -e "$stamp" ] && [ "$(cat "$stamp")" != "$here" ]; then
  rm -rf "$folder"
fi
rm -f "$stamp"
if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
  rm -rf "$folder"
  "$python" -m venv "$folder"
fi

echo "carrel: making the environment in $folder with $("$folder/bin/python" --version), once; this takes about a minute" >&2
# On a terminal pip shows how far it is.
if [ -t 1 ]; then quiet=; else quiet=--quiet; fi
install() {
  "$folder/bin/python" -m pip install $quiet --disable-pip-version-check "$@" ||
    fail "the packages could not be installed (see above): the first run needs a connection to a Python package index."
}
# A file whose hash is not in there is refused, whoever sent it.
install --require-hashes --requirement constraints.lock
# With the build tool just installed, and nothing from anywhere: `make check-offline` tells when the lock lacks something that setup.cfg asks for.
# The build tool warns of what is wanted: that the clone's own folders are the packages.
export PYTHONWARNINGS=ignore
install --no-deps --no-index --no-build-isolation --editable .
printf '%s' "$here" >"$stamp"
