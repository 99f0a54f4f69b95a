#!/bin/sh
# Nextcloud's accounts, for people and for `labloop users`. Run it in the container:
#
#   docker exec -i CONTAINER sh /labloop/user.sh add NAME MAIL   < password
#                                               password NAME   < password
#                                               disable NAME | remove NAME | list
#
# Passwords come on standard input and go on in the environment, where no `ps` shows them.
# `add` also lets a disabled account in again; an account that is there keeps its password.
# Exit codes: 0 done (also when there was nothing to do), 1 failed, 2 wrong usage, 3 refused.
set -u
ROOM=${LABLOOP_ROOM:-/var/www/html}
ADMIN=${NEXTCLOUD_ADMIN:-admin}

usage() {
    echo "usage: user.sh add NAME MAIL | password NAME | disable NAME | remove NAME | list" >&2
    exit 2
}

wrong() {
    echo "$1" >&2
    exit "$2"
}

occ() { php "$ROOM/occ" --no-interaction "$@"; }

# Run occ in silence; when it fails, tell its words, without PHP's trace.
quietly() {
    words=$(occ "$@" 2>&1) && return 0
    wrong "$(printf '%s\n' "$words" | grep -vE '^ *$|^#[0-9]|^Stack trace|^\[nextcloud\]' | tail -n 3)" 1
}

check_name() {
    case $1 in
        '' | [!A-Za-z0-9]* | *[!A-Za-z0-9._@-]*)
            wrong "name '$1' found; expected letters, digits and . _ @ - with a letter or digit first" 2
            ;;
    esac
}

check_mail() {
    case $1 in
        *[!A-Za-z0-9._%+@-]* | *@*@* | @* | *@) wrong "mail address '$1' found; expected name@host" 2 ;;
        *@*) ;;
        *) wrong "mail address '$1' found; expected name@host" 2 ;;
    esac
}

exists() { occ user:info "$1" >/dev/null 2>&1; }

must_exist() { exists "$1" || wrong "there is no account $1" 1; }

# The administrator is the lab's own; without them nobody can repair anything.
must_not_be_admin() { [ "$1" != "$ADMIN" ] || wrong "$1 is the administrator and stays" 3; }

read_password() {
    IFS= read -r OC_PASS || [ -n "${OC_PASS:-}" ] || wrong "expected a password on standard input" 2
    [ -n "$OC_PASS" ] || wrong "an empty password was given" 2
    export OC_PASS
}

add() {
    if exists "$1"; then
        quietly user:setting "$1" settings email "$2"
        quietly group:adduser lab "$1"
        quietly user:enable "$1"
        echo "$1 was there; mail, group and access are set, the password is as it was"
    else
        read_password
        quietly user:add --password-from-env --email="$2" --group=lab "$1"
        echo "$1 was added"
    fi
}

password() {
    must_exist "$1"
    read_password
    quietly user:resetpassword --password-from-env "$1"
    echo "the password of $1 was changed"
}

disable() {
    must_exist "$1"
    quietly user:disable "$1"
    echo "$1 can sign in no more"
}

# Files on the share stay; those in their own Nextcloud folders go.
remove() {
    if exists "$1"; then
        quietly user:delete "$1"
        echo "$1 was removed"
    else
        echo "$1 was not there"
    fi
}

list() {
    people=$(occ user:list --info --limit=100000 --output=json 2>/dev/null | tail -n 1)
    case $people in '{'* | '['*) ;; *) wrong "Nextcloud did not list its accounts" 1 ;; esac
    # shellcheck disable=SC2016 # PHP's variables
    printf '%s' "$people" | php -r '
        foreach (json_decode(stream_get_contents(STDIN), true) as $one) {
            $state = $one["enabled"] ? "enabled" : "disabled";
            echo implode("\t", [$one["user_id"], $one["email"] ?? "", $state, implode(",", $one["groups"])]), "\n";
        }'
}

verb=${1:-}
case $verb:$# in
    add:3) check_name "$2" && check_mail "$3" ;;
    password:2) check_name "$2" ;;
    disable:2 | remove:2) check_name "$2" && must_not_be_admin "$2" ;;
    list:1) ;;
    *) usage ;;
esac
shift
"$verb" "$@"
