#!/usr/bin/env bash
# Installs imcl with all that it needs, on Debian or Ubuntu: the packages that are missing, then the
# environment of uv.lock. The images are made by it, and CI runs it in a clean folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
missing=()
[[ -s /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
command -v make >/dev/null || missing+=(make)
command -v git >/dev/null || missing+=(git)
command -v python3 >/dev/null || missing+=(python3 python3-venv)
command -v latexmk >/dev/null || missing+=(texlive-latex-recommended lmodern latexmk)
if ((${#missing[@]})); then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
make environment
.venv/bin/imcl --version
