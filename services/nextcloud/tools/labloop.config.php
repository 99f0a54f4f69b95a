<?php
// What Labloop decides about Nextcloud. The hook copies this file beside config.php at every start,
// under a name that is read last: what stands here wins, also over clicks and occ.

// Docker's networks this container is in, e.g. 172.20.0.0/16. Only their members may speak for a
// client. With all private ranges instead, everybody in the lab would be one client for Nextcloud,
// and one mistyped password would slow down all.
$networks = [];
foreach (array_slice(@file('/proc/net/route') ?: [], 1) as $line) {
    [, $network, $gateway, , , , , $mask] = preg_split('/\s+/', $line);
    if ($gateway === '00000000' && $mask !== '00000000') {
        $address = implode('.', array_reverse(array_map('hexdec', str_split($network, 2))));
        $networks[] = $address . '/' . substr_count(decbin(hexdec($mask)), '1');
    }
}

$secret = fn (string $name): string => trim((string)@file_get_contents("/run/secrets/$name"));
$named = (string)getenv('NEXTCLOUD_TRUSTED_DOMAINS');
$domains = preg_split('/[\s,]+/', $named, -1, PREG_SPLIT_NO_EMPTY);

$CONFIG = [
    // The door. `localhost` is the health check's.
    'trusted_domains' => ['localhost', ...$domains],
    'trusted_proxies' => $networks,
    'overwriteprotocol' => 'https',
    'overwrite.cli.url' => 'https://' . ($domains[0] ?? 'localhost'),

    // Passwords are read from their files, so that a new one is valid after a restart. Nextcloud
    // copies them to config.php whenever it writes that: a backup of its volume holds secrets.
    'dbpassword' => $secret('nextcloud-db-password'),
    'redis' => [
        'host' => 'redis',
        'port' => 6379,
        'password' => $secret('redis-password'),
        'timeout' => 5.0,
    ],
    'memcache.local' => '\OC\Memcache\APCu',
    'memcache.distributed' => '\OC\Memcache\Redis',
    'memcache.locking' => '\OC\Memcache\Redis',

    // The share: what is written there, the lab's group may write, too.
    'localstorage.umask' => 2,
    'files_external_allow_create_new_local' => false,
    // Not shown and not to be removed: the marker, without which the loop stands still, and what is
    // still being written.
    'forbidden_filenames' => ['.htaccess', '.labloop', '.staging'],
    // Off, Nextcloud asks nobody on the internet; with no way there each question is a time-out.
    'has_internet_connection' => false,
    'appstoreenabled' => false,
    'updatechecker' => false,
    'knowledgebaseenabled' => false,

    // People find the share, and no samples.
    'skeletondirectory' => '',
    'templatedirectory' => '',
    'defaultapp' => 'files',
    'default_phone_region' => 'US', // of numbers without a country, which nobody needs here
    'maintenance_window_start' => 1, // UTC hour for the heavy chores
    'log_type' => 'errorlog', // ends in the container's log
    'loglevel' => 2,
];
