#!/bin/sh
# Runs before Apache at every start, as the container's user, and may run any number of times.
#
# Without an installed and upgraded Nextcloud it fails, and so does the container: the page that
# Apache would show then lets anybody make themselves an administrator. All else is only told.
set -u
ROOM=${LABLOOP_ROOM:-/var/www/html}
TOOLS=${LABLOOP_TOOLS:-/labloop}
SHARE=${LABLOOP_SHARE:-/mnt/nas}

# Not wanted in a lab: what talks to the internet, advertises, or opens files to strangers.
UNWANTED="app_api federation firstrunwizard nextcloud_announcements privacy recommendations
    related_resources sharebymail support survey_client updatenotification user_status weather_status"

say() { echo "labloop: $*"; }
occ() { php "$ROOM/occ" --no-interaction "$@"; }

# Run occ; when it fails, say what did not work and the last of its words. The start goes on.
try() {
    what=$1
    shift
    if ! words=$(occ "$@" 2>&1); then
        say "could not $what: $(printf '%s\n' "$words" | grep -v '^ *$' | tail -n 1)"
        return 1
    fi
}

# Our settings, complete in one step: the sidecars read them at any moment.
put_settings() {
    to="$ROOM/config/zz-labloop.config.php"
    cp "$TOOLS/labloop.config.php" "$to.part" && chmod 640 "$to.part" && mv "$to.part" "$to"
}

state() { occ status --output=json 2>&1 | grep -v '^ *$' | tail -n 1; }

# What Nextcloud's own file says: asked of occ, a database that is away looks like no installation.
is_installed() { php "$TOOLS/installed.php" "$ROOM/config/config.php"; }

# The database may come back a moment after us, as when the whole machine starts.
wait_for_state() {
    tries=${LABLOOP_TRIES:-20}
    while :; do
        found=$(state)
        case $found in *'"installed":true'*) return 0 ;; esac
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || break
        sleep 3
    done
    say "Nextcloud does not work: occ status said: $found"
    say "hint: are db and redis healthy? \`labloop status\` tells"
    return 1
}

# To install and to upgrade is the image's entrypoint's task, but what it began and did not finish it
# never tries again; and it puts the passwords on command lines.
make_ready() {
    if ! is_installed; then
        say "installing Nextcloud; this takes about a minute"
        php "$TOOLS/install.php" && is_installed || return 1
        try "add the indices that an installation leaves out" db:add-missing-indices
    fi
    wait_for_state || return 1
    case $found in
        *'"needsDbUpgrade":true'*)
            say "the database is older than this image; upgrading it"
            words=$(occ upgrade 2>&1) && occ maintenance:mode --off
            code=$?
            printf '%s\n' "$words" | grep -v '^\[nextcloud\]' # an upgrade logs every step
            [ "$code" -eq 0 ] || return 1
            try "add the indices of the new version" db:add-missing-indices
            wait_for_state || return 1
            ;;
    esac
    case $found in *'"needsDbUpgrade":false'*) return 0 ;; esac
    say "the upgrade did not end well: occ status said: $found"
    return 1
}

# The number of the mount of the share; nothing when there is none.
mount_number() {
    occ files_external:list --output=json 2>/dev/null | tail -n 1 | php "$TOOLS/mounts.php" /NAS
}

mount_share() {
    try "switch external storages on" app:enable files_external || return 1
    number=$(mount_number)
    if [ -z "$number" ]; then
        try "mount the share" files_external:create /NAS local null::null -c "datadir=$SHARE" || return 1
        number=$(mount_number)
        say "the share is folder NAS of everybody in group lab"
    fi
    # Nobody outside the group sees it, not even when somebody clicked otherwise.
    try "give the share to group lab" files_external:applicable "$number" --add-group lab
    try "allow sharing on the share" files_external:option "$number" enable_sharing true
    try "look for changes on the share" files_external:option "$number" filesystem_check_changes 1
}

look_at_share() {
    [ -e "$SHARE/.labloop" ] || say "$SHARE has no file .labloop: is the share mounted?"
    [ -w "$SHARE" ] || say "$SHARE cannot be written by $(id -u):$(id -g); uploads will be refused (403)"
}

switch_off() {
    enabled=$(occ app:list --enabled --output=json 2>/dev/null | tail -n 1)
    unwanted=
    for app in $UNWANTED; do
        case $enabled in *"\"$app\":"*) unwanted="$unwanted $app" ;; esac
    done
    # shellcheck disable=SC2086 # words
    [ -z "$unwanted" ] || try "switch off$unwanted" app:disable $unwanted
}

settle() {
    case $(occ group:list --output=json 2>/dev/null | tail -n 1) in
        *'"lab":'*) ;;
        *) try "make group lab" group:add lab ;;
    esac
    try "add the administrator to group lab" group:adduser lab "${NEXTCLOUD_ADMIN:-admin}"
    mount_share
    switch_off
    try "leave chores to the cron container" background:cron
    try "forbid shares that need no sign-in" config:app:set core shareapi_allow_links --value=no
    # The list of known passwords is asked on the internet.
    try "check passwords without the internet" \
        config:app:set password_policy enforceHaveIBeenPwned --value=0
}

umask 0002
mkdir -p "$ROOM/data/.sessions" && chmod 700 "$ROOM/data/.sessions" || say "sessions cannot be kept"
if ! put_settings; then
    say "cannot write $ROOM/config: the volume must belong to uid $(id -u)"
    exit 1
fi
make_ready || exit 1
look_at_share
case $found in
    *'"maintenance":true'*)
        say "maintenance mode is on: apps, groups and mounts are left as they are until the next start"
        ;;
    *) settle ;;
esac
say "ready"
exit 0
