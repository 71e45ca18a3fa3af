# Sourced by the scripts beside it.

# Installs Debian packages without asking anything; fails where that is not allowed.
install_packages() {
    local may=() output
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || return 1
        may=(sudo -n)
    fi
    echo "Installing $* ..."
    "${may[@]}" apt-get update -qq >/dev/null 2>&1 || true # an old list may still do
    if ! output=$("${may[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" 2>&1); then
        echo "$output" >&2
        return 1
    fi
}
