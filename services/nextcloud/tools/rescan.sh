#!/bin/sh
# Look at every file of the share: what was put there or changed behind Nextcloud's back shows then.
ROOM=${LABLOOP_ROOM:-/var/www/html}
TOOLS=${LABLOOP_TOOLS:-/labloop}
SHARE=${LABLOOP_SHARE:-/mnt/nas}

if [ ! -e "$SHARE/.labloop" ]; then
    # An unmounted share looks empty, and Nextcloud would forget every file, with its shares and tags.
    echo "$SHARE has no file .labloop: the share is not mounted"
    exit 1
fi
number=$(php "$ROOM/occ" files_external:list --output=json | tail -n 1 | php "$TOOLS/mounts.php" /NAS)
if [ -z "$number" ]; then
    echo "Nextcloud has no mount /NAS; its next start makes it"
    exit 1
fi
exec php "$ROOM/occ" --no-interaction files_external:scan "$number"
