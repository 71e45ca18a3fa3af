#!/usr/bin/env bash
# Writes the man page and the shells' completions, made from the parser, into FOLDER. Usage: packaging/manual.sh FOLDER
# Needs: pip install shtab argparse-manpage
set -euo pipefail
folder=$1
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "$folder"
argparse-manpage --module edge.cli --function build_parser --prog edge-restore --project-name SpikerIR-edge \
    --description "restores images, videos and camera pictures with a spiking network" --output "$folder/edge-restore.1"
for shell in bash zsh tcsh; do
    shtab --shell="$shell" --prog edge-restore edge.cli.build_parser >"$folder/edge-restore.$shell"
done
