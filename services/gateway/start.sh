#!/bin/sh
# Starts Caddy: works out which addresses the Caddyfile is to serve, with which certificate, and
# says in one line what is wrong with a setting before anything listens.
set -eu

refuse() {
    echo "gateway: $1" >&2
    exit 2
}

lower() {
    printf %s "$1" | tr '[:upper:]' '[:lower:]'
}

# as_name VARIABLE VALUE: what may stand in a certificate; IPv6 addresses without brackets.
as_name() {
    case $2 in
        *[!a-z0-9.:-]* | "" | -* | .*) refuse "$1 is '$2', expected a host name or an IP address" ;;
    esac
}

# as_port VARIABLE VALUE
as_port() {
    case $2 in *[!0-9]* | "") refuse "$1 is '$2', expected a port" ;; esac
}

# sites PORT: the addresses of one application, for every name that is ours.
sites() {
    found=""
    for name in $names; do
        case $name in *:*) name="[$name]" ;; esac
        found="${found:+$found, }https://$name:$1"
    done
    printf %s "$found"
}

# in_url PORT: nothing for https's own port.
in_url() {
    [ "$1" = 443 ] || printf ':%s' "$1"
}

host=$(lower "${LAB_HOST:-localhost}")
domain=$(lower "${LAB_DOMAIN:-}")
as_name LAB_HOST "$host"
for variable in GATEWAY_PORT GATEWAY_LABEL_PORT GATEWAY_FILES_PORT GATEWAY_BOARD_PORT; do
    eval "port=\${$variable:-}"
    as_port "$variable" "${port:-443}"
done

names=localhost
[ "$host" = localhost ] || names="$names $host"
PORTAL_SITES=$(sites 8443) LABEL_SITES=$(sites 8444) FILES_SITES=$(sites 8445) BOARD_SITES=$(sites 8446)
if [ -n "$domain" ]; then
    as_name LAB_DOMAIN "$domain"
    # A browser keeps no cookie for `lab`, only for `lab.example`.
    case $domain in
        *:* | [!.]*.[!.]*) ;;
        *) refuse "LAB_DOMAIN is '$domain', expected a domain with a dot in it, as lab.example" ;;
    esac
    [ "$host" = "$domain" ] || PORTAL_SITES="$PORTAL_SITES, https://$domain:8443"
    LABEL_SITES="$LABEL_SITES, https://label.$domain:8443"
    FILES_SITES="$FILES_SITES, https://files.$domain:8443"
    BOARD_SITES="$BOARD_SITES, https://board.$domain:8443"
fi

GATEWAY_TLS=internal CA_FOLDER=/data/caddy/pki/authorities/local
if [ -n "${GATEWAY_CERTIFICATE:-}" ]; then
    for file in "$GATEWAY_CERTIFICATE" "${GATEWAY_CERTIFICATE_KEY:-}"; do
        [ -r "$file" ] || refuse "cannot read '$file', expected the lab's own certificate and its key"
    done
    GATEWAY_TLS="$GATEWAY_CERTIFICATE $GATEWAY_CERTIFICATE_KEY" CA_FOLDER=/nowhere
fi

case $host in *:*) in_urls="[$host]" ;; *) in_urls=$host ;; esac
export PORTAL_SITES LABEL_SITES FILES_SITES BOARD_SITES GATEWAY_TLS CA_FOLDER
export LAB_HOST="$host" PORTAL_HOST="$in_urls" LAB_DOMAIN="${domain:-domain.invalid}"
export AT_PORTAL="$(in_url "${GATEWAY_PORT:-443}")" AT_LABEL="$(in_url "${GATEWAY_LABEL_PORT:-8443}")"
export AT_FILES="$(in_url "${GATEWAY_FILES_PORT:-9443}")" AT_BOARD="$(in_url "${GATEWAY_BOARD_PORT:-6443}")"
exec caddy run --config "${1:-/etc/caddy/Caddyfile}" --adapter caddyfile
